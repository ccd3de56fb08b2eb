//! The writes of a group: reads the rows that they need, and decides what they change.

use std::collections::{BTreeMap, HashMap, HashSet};

use service_kit::{
    args,
    db::{self, Conn, FromRow, Row, Value},
};
use uuid::Uuid;

use crate::{
    model::{
        TaskRow,
        mutation::{MutationContext, TaskTree, WorkingSet},
        rank::SequenceNumber,
        recurrence::SearchBudget,
        write::Write,
    },
    store::{
        epoch,
        history::{Entries, EntryContext},
        mutations::{Mutation, Rows, apply},
        read_groups::fetch_tasks,
        reminder_queue,
        storage_limits::response_size,
        transaction::{NotCommitted, RETENTION, StoredResponse, encode_response, replay, response_values},
    },
};

/// A write of a group, and the rows that it needs.
pub(super) struct Member<'m> {
    mutation: &'m Mutation,
    write: Write,
    counter: Counter,
    response: Option<StoredResponse>,
    task: Option<TaskRow>,
    lists: HashSet<Uuid>,
}

/// What a member changes.
pub(super) struct Diff {
    pub(super) owner: Uuid,
    pub(super) task: Option<TaskRow>,
    pub(super) is_created: bool,
    pub(super) active_delta: i64,
    /// Whether the time of a reminder has changed.
    pub(super) reschedules: bool,
    pub(super) history: Entries,
    pub(super) response: Option<NewResponse>,
}

/// A response to store.
pub(super) struct NewResponse {
    pub(super) values: Vec<Value>,
    /// What it occupies.
    pub(super) size: i64,
    /// The sum of the sizes of all responses of the owner, including this one.
    pub(super) end: i64,
}

/// Locks the owners of the writes, and reads the rows that the writes need. Returns `None` for a write whose owner is
/// locked by another transaction, or has not written anything yet.
pub(super) async fn read_members<'m>(
    conn: &mut Conn,
    mutations: &[&'m Mutation],
) -> Result<Vec<Option<Member<'m>>>, db::Error> {
    let counters = lock_owners(conn, mutations.iter().map(|mutation| mutation.owner)).await?;
    let mut members: Vec<_> = mutations
        .iter()
        .map(|&mutation| {
            let (counter, write) = counters.get(&mutation.owner).copied().zip(mutation.writes.first().cloned())?;
            let lists = HashSet::from([mutation.owner]);
            Some(Member { mutation, write, counter, response: None, task: None, lists })
        })
        .collect();
    let mut locked: Vec<&mut Member<'_>> = members.iter_mut().flatten().collect();
    read_responses(conn, &mut locked).await?;
    read_tasks(conn, &mut locked).await?;
    read_lists(conn, &mut locked).await?;
    epoch::check_etags(conn, locked.into_iter().filter_map(|member| member.write.target_mut()).collect()).await?;
    Ok(members)
}

/// The counter of an owner, before the write.
#[derive(Clone, Copy)]
struct Counter {
    last_change: i64,
    active_tasks: i64,
    task_rows: i64,
    tombstones: i64,
    history_bytes: i64,
    response_bytes: i64,
}

struct OwnerRow(Uuid, Counter);

impl FromRow for OwnerRow {
    fn from_row(row: &mut Row<'_>) -> Result<Self, db::Error> {
        let owner = row.next()?;
        let (last_change, active_tasks, task_rows) = (row.next()?, row.next()?, row.next()?);
        let (tombstones, history_bytes, response_bytes) = (row.next()?, row.next()?, row.next()?);
        Ok(Self(owner, Counter { last_change, active_tasks, task_rows, tombstones, history_bytes, response_bytes }))
    }
}

/// Locks the counters of owners. Skips those that are locked, so that no write of the group waits for another owner, and
/// groups of two replicas do not deadlock.
async fn lock_owners(conn: &mut Conn, owners: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, Counter>, db::Error> {
    const LOCK: &str = "
        select owner_id, last_change, live_tasks, task_rows, tombstones, history_bytes, response_bytes
        from owners where owner_id = any ($1) for no key update skip locked";
    let rows: Vec<OwnerRow> = conn.fetch_all(LOCK, Value::arrays(owners.map(|owner| args![owner]).collect())).await?;
    Ok(rows.into_iter().map(|OwnerRow(owner, counter)| (owner, counter)).collect())
}

/// Reads the responses that are stored for the request ids of members.
async fn read_responses(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    const SELECT: &str = "
        select found.* from unnest($1::uuid[], $2::uuid[], $3::bigint[]) wanted (owner, request, since)
        cross join lateral (
            select owner_id, hash, answer from requests
            where owner_id = owner and id = request and create_time > since limit 1
        ) found";
    let wanted = members.iter().filter_map(|member| {
        let Mutation { owner, now, options, .. } = member.mutation;
        options.request.as_ref().map(|request| args![*owner, request.id, *now - RETENTION])
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Uuid, String, String)> = conn.fetch_all(SELECT, Value::arrays(wanted)).await?;
    let mut found: HashMap<_, _> = rows.into_iter().map(|(owner, hash, answer)| (owner, (hash, answer))).collect();
    for member in members {
        member.response = found.remove(&member.mutation.owner);
    }
    Ok(())
}

/// Reads the tasks that members change.
async fn read_tasks(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    let (mut changing, mut keys) = (Vec::new(), Vec::new());
    for member in members {
        let owner = member.mutation.owner;
        if let Some(target) = member.write.target_mut() {
            keys.push((owner, target.id));
            changing.push(member);
        }
    }
    for (member, task) in changing.into_iter().zip(fetch_tasks(conn, &keys).await?) {
        let now = member.mutation.now;
        member.task = task.filter(|task| task.purge_time.is_none_or(|purge_time| purge_time > now));
    }
    Ok(())
}

/// Reads which of the lists exist in which members create tasks. The default list always exists.
async fn read_lists(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    const SELECT: &str = "
        select found.* from unnest($1::uuid[], $2::uuid[]) wanted (owner, list)
        cross join lateral (select owner_id, id from task_lists where owner_id = owner and id = list limit 1) found";
    let wanted = members.iter().filter_map(|member| match &member.write {
        Write::Create(task) => task.list_id.map(|list| args![member.mutation.owner, list]),
        _ => None,
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found: HashMap<Uuid, Uuid> =
        conn.fetch_all::<(Uuid, Uuid)>(SELECT, Value::arrays(wanted)).await?.into_iter().collect();
    for member in members {
        member.lists.extend(found.get(&member.mutation.owner));
    }
    Ok(())
}

impl Member<'_> {
    /// Applies the write. Returns `None` if it must be executed alone, because it also removes rows of an account at its
    /// limits, is the first with an entry in the history of a task, completes a recurring task, or changes the recurrence of
    /// a task that has a next occurrence.
    pub(super) fn decide(self) -> Option<Result<(Rows, Diff), NotCommitted<Rows>>> {
        let Self { mutation, write, counter, response, task, lists } = self;
        let created = i64::from(matches!(write, Write::Create(_)));
        let is_at_limit = counter.task_rows + created > mutation.max_tasks + mutation.max_deleted
            || counter.tombstones > mutation.max_deleted;
        let recurs =
            matches!(write, Write::Complete { .. }) && task.as_ref().is_some_and(|task| task.recurrence.is_some());
        let has_next = || task.as_ref()?.occurrence()?.next_task_id;
        if is_at_limit || recurs || (write.recurrence_target().is_some() && has_next().is_some()) {
            return None;
        }
        let request = mutation.options.request.as_ref();
        if let Some(Err(not_committed)) = request.map(|request| replay(request, response)) {
            return Some(Err(not_committed));
        }
        let Mutation { owner, actor, now, purge_time, max_tasks, prefixes, new_ids, .. } = mutation;
        let sequence = SequenceNumber(counter.last_change + 1);
        let mut working_set = WorkingSet {
            context: MutationContext { owner: *owner, actor: *actor, now: *now, purge_time: *purge_time, sequence },
            tree: TaskTree::new(task.map(|task| (task.id, task)).into_iter().collect(), Vec::new()),
            lists,
            ranks: HashMap::new(),
            changed: BTreeMap::new(),
            taken: HashSet::new(),
            taken_sources: HashSet::new(),
            active_delta: 0,
            max_active_delta: max_tasks - counter.active_tasks,
            next_tasks: 0,
            searches: SearchBudget::default(),
        };
        let rows = match apply(&mut working_set, vec![write], prefixes, new_ids) {
            Ok(rows) => rows,
            Err(error) => return Some(Err(error.into())),
        };
        if !working_set.has_changes() && request.is_none() {
            return Some(Err(NotCommitted::NothingToCommit(rows)));
        }
        let position = counter.history_bytes;
        let history = Entries::new(EntryContext::new(working_set.context, position), working_set.changed_tasks());
        if !history.is_addition(position) {
            return None;
        }
        let response = request.map(|request| {
            let (text, begin) = (encode_response(&(mutation.encode)(&rows)), counter.response_bytes);
            let size = response_size(text.len());
            NewResponse { values: response_values(*owner, request, text, *now, begin), size, end: begin + size }
        });
        let task = working_set.changed_tasks().next().map(|task| task.after.clone());
        let (is_created, active_delta) = (created > 0, working_set.active_delta);
        let reschedules = reminder_queue::concerns(&working_set);
        Some(Ok((rows, Diff { owner: *owner, task, is_created, active_delta, reschedules, history, response })))
    }
}

impl Diff {
    /// Returns how many rows are written. As elsewhere, large texts count as several.
    pub(super) fn written_rows(&self) -> u64 {
        let rows = u64::from(self.task.is_some()) + u64::from(self.response.is_some());
        let texts = self.task.as_ref().map_or(0, |task| 2 * (task.title.len() + task.notes.len()) + task.labels.len());
        let response = self.response.as_ref().map_or(0, |response| response.size);
        rows + (texts as u64 + (self.history.value_bytes + response).unsigned_abs()) / Conn::BYTES_PER_ROW
    }
}
