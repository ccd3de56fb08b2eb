//! The types of tasks, lists, filters and orders, and the logic of writes, without I/O. Module `request` parses
//! messages into these types.

use std::time::Duration;

use service_kit::{
    clock::Timestamp,
    epoch::Epoch,
    page::{self, PageTokens},
    status::ApiError,
};
use uuid::Uuid;

pub(crate) mod due;
pub(crate) mod field;
pub(crate) mod file;
pub(crate) mod filter;
pub(crate) mod fold;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod mutation;
pub(crate) mod order;
pub(crate) mod rank;
pub(crate) mod recurrence;
pub(crate) mod reminder;
pub(crate) mod sync;
pub(crate) mod webhook;
pub(crate) mod write;

use filter::Filter;
use order::{Cursor, OrderBy, SortFields};

/// A row of the table of tasks. Its texts are of type `T`, which is `&str` where they are not copied from the database.
#[derive(Clone, Debug)]
pub(crate) struct TaskRow<T = String> {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) list_id: Uuid,
    /// The task that it is a subtask of.
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) title: T,
    pub(crate) notes: T,
    pub(crate) priority: i32,
    /// Never set together with the due time.
    pub(crate) due_date: Option<T>,
    pub(crate) due_time: Option<Timestamp>,
    /// The instant by which the task is due, from the due date or the due time.
    pub(crate) due_at: Option<Timestamp>,
    /// Empty if not set.
    pub(crate) time_zone: T,
    /// In the format of [`Labels`].
    pub(crate) labels: T,
    pub(crate) rank: T,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    /// Set if the task is completed.
    pub(crate) complete_time: Option<Timestamp>,
    /// Set if the task is deleted.
    pub(crate) delete_time: Option<Timestamp>,
    /// Set if and only if `delete_time` is set.
    pub(crate) purge_time: Option<Timestamp>,
    pub(crate) revision: Revision,
    /// The sequence number, among the mutations of the owner, of the last one that changed the task.
    pub(crate) change: i64,
    /// Identifies the task in the file from which it was imported.
    pub(crate) source_id: Option<T>,
    /// The stored form of the [`Occurrence`](recurrence::Occurrence) that the task is, if it recurs.
    pub(crate) recurrence: Option<T>,
    /// In the format of [`reminder`]. Empty if there are none.
    pub(crate) reminders: T,
    /// When the next reminder fires, if the task is neither completed nor deleted.
    pub(crate) next_reminder: Option<Timestamp>,
}

impl<T> TaskRow<T> {
    /// Returns the id of the parent or, at the top level, of the list.
    pub(crate) fn container_id(&self) -> Uuid {
        self.parent_id.unwrap_or(self.list_id)
    }
}

impl TaskRow {
    /// Returns when the next reminder fires.
    pub(crate) fn pending_reminder(&self) -> Option<Timestamp> {
        self.next_reminder.filter(|_| self.complete_time.is_none() && self.delete_time.is_none())
    }
}

impl<'a, T: AsRef<str>> From<&'a TaskRow<T>> for SortFields<'a> {
    fn from(row: &'a TaskRow<T>) -> Self {
        Self {
            id: row.id,
            title: row.title.as_ref(),
            create_time: row.create_time,
            update_time: row.update_time,
            due_at: row.due_at,
            priority: row.priority.into(),
            rank: row.rank.as_ref(),
        }
    }
}

/// Returns the new `update_time` of a task or list: the current time, but always later than the old `update_time`, because
/// the clocks of replicas differ, and a write reads the time before it waits for others.
pub(crate) fn later(now: Timestamp, old: Timestamp) -> Timestamp {
    now.max(old + Duration::from_micros(1))
}

/// The version of a task or list, which starts at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision(pub(crate) i64);

impl Revision {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// A revision that no task or list has.
    const INVALID: Self = Self(0);

    /// Returns the etag: a strong entity tag (RFC 9110, section 8.8.3) with the version of its format, the epoch of the
    /// database and the revision.
    pub(crate) fn etag(self, epoch: Epoch) -> String {
        format!("\"{ETAG_VERSION}.{epoch}.{:x}\"", self.0)
    }

    /// Parses an etag of the current version.
    fn from_etag(etag: &str) -> Option<(Epoch, Self)> {
        let text = etag.strip_prefix('"')?.strip_suffix('"')?;
        let (epoch, digits) = text.strip_prefix(ETAG_VERSION)?.strip_prefix('.')?.split_once('.')?;
        let (epoch, revision) = (Epoch::parse(epoch)?, Self(i64::from_str_radix(digits, 16).ok()?));
        (revision.etag(epoch) == etag).then_some((epoch, revision))
    }
}

/// The version of the etag format.
const ETAG_VERSION: char = '1';

/// The task or list that a request names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) id: Uuid,
    /// The revision of the etag, if the request has one. The write fails if the current revision differs.
    pub(crate) revision: Option<Revision>,
    /// The epoch of the etag, if the request has a valid one.
    epoch: Option<Epoch>,
}

impl Target {
    /// Returns the target with this id and, unless it is empty, this etag. An etag that was not issued by this service
    /// matches no task or list.
    pub(crate) fn new(id: Uuid, etag: &str) -> Self {
        match Revision::from_etag(etag) {
            Some((epoch, revision)) => Self { id, revision: Some(revision), epoch: Some(epoch) },
            None => Self { id, revision: (!etag.is_empty()).then_some(Revision::INVALID), epoch: None },
        }
    }

    /// Makes an etag of another epoch match no task or list.
    pub(crate) fn check_epoch(&mut self, current: Epoch) {
        if self.epoch.is_some_and(|epoch| epoch != current) {
            self.revision = Some(Revision::INVALID);
        }
    }
}

/// The parameters of `ListTasks`.
#[derive(Clone, Debug)]
pub(crate) struct ListQuery {
    /// 1 to [`page::MAX_SIZE`].
    pub(crate) page_size: usize,
    /// Empty for the first page.
    pub(crate) page_token: String,
    pub(crate) show_deleted: bool,
    pub(crate) filter: Filter,
    pub(crate) order: OrderBy,
}

impl ListQuery {
    /// Returns the parameters that must not change between pages, as bytes.
    pub(crate) fn arguments(&self) -> Vec<u8> {
        let Self { show_deleted, filter, order, .. } = self;
        format!("tasks\0{show_deleted}\0{order}\0{filter}").into_bytes()
    }

    /// Reports whether the page may require reading all tasks of the owner. In the default order, without a filter, it
    /// does not.
    pub(crate) fn is_search(&self) -> bool {
        !self.filter.is_empty() || self.order != OrderBy::default()
    }

    /// Returns the cursor after which the page starts, or `None` for the first page.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID if the token was not issued to this caller for this query.
    pub(crate) fn after(&self, tokens: &PageTokens, owner: Uuid) -> Result<Option<Cursor>, ApiError> {
        if self.page_token.is_empty() {
            return Ok(None);
        }
        let cursor = tokens.open(owner, &self.arguments(), &self.page_token)?;
        cursor.map(|cursor| self.order.decode(&cursor).ok_or_else(page::invalid)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(1);

    fn epoch() -> Epoch {
        Epoch::from(Uuid::from_u128(0xe))
    }

    #[test]
    fn an_etag_parses_to_its_revision() {
        for revision in [Revision::FIRST, Revision(31), Revision(i64::MAX)] {
            let mut target = Target::new(ID, &revision.etag(epoch()));
            target.check_epoch(epoch());
            assert_eq!(target.revision, Some(revision));
        }
        assert_eq!(Revision(31).etag(epoch()), "\"1.000000000000000e.1f\"");
        assert_eq!(Target::new(ID, "").revision, None);
    }

    #[test]
    fn an_etag_of_another_epoch_matches_no_task() {
        let mut target = Target::new(ID, &Revision(31).etag(epoch()));
        target.check_epoch(Epoch::from(Uuid::from_u128(0xf)));
        assert_eq!(target.revision, Some(Revision::INVALID));
    }

    #[test]
    fn an_etag_that_was_not_issued_matches_no_task() {
        let invalid = ["", "1.", "2.000000000000000e.1", "1.e.1", "1.000000000000000e.01", "1.000000000000000e.1F"];
        let invalid = invalid.into_iter().chain(["1.000000000000000e.+1", "1.000000000000000e.-1", "1", "1f"]);
        let quoted = invalid.map(|text| format!("\"{text}\""));
        let unquoted = ["1", "\"", "*", "\0", "1.000000000000000e.1", "W/\"1.000000000000000e.1\""].map(str::to_owned);
        for etag in quoted.chain(unquoted) {
            assert_eq!(Target::new(ID, &etag).revision, Some(Revision::INVALID), "{etag:?}");
        }
    }
}
