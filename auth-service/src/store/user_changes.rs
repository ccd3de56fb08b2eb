//! The list of accounts that were deleted, disabled or enabled, with the last change of each. Other services read it to
//! delete the data of deleted accounts, and to do nothing for disabled ones. The changes themselves are in `accounts` and
//! `service_accounts`.
//!
//! The table is named after deletions, because earlier versions store nothing else in it.

use service_kit::{
    args,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::feed::CHANNEL;

/// The state of an account after its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    /// It was deleted.
    Deleted,
    /// An administrator has disabled it.
    Disabled,
    /// An administrator has enabled it.
    Enabled,
}

impl UserState {
    /// Returns the name under which the state is stored.
    fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
        }
    }

    /// Parses the name under which a state is stored. Returns `None` if it is that of a newer version.
    fn parse(name: &str) -> Option<Self> {
        [Self::Deleted, Self::Disabled, Self::Enabled].into_iter().find(|state| state.name() == name)
    }
}

/// The last change of an account.
#[derive(Clone, Copy, Debug)]
pub struct UserChange {
    /// The sequence number.
    pub sequence: i64,
    /// The id of the account.
    pub user_id: Uuid,
    /// The state since then, or `None` if this version does not know it.
    pub state: Option<UserState>,
}

impl FromRow for UserChange {
    /// Reads `place, user_id, state`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (sequence, user_id, state) = (row.next()?, row.next()?, row.next::<String>()?);
        Ok(Self { sequence, user_id, state: UserState::parse(&state) })
    }
}

/// Adds a change of an account to the list, within the transaction that makes it. It replaces the earlier change of the
/// account, so that the list does not grow with the number of changes.
///
/// # Errors
/// If the database fails.
pub async fn insert(conn: &mut Conn, user_id: Uuid, state: UserState) -> Result<(), Error> {
    // The row stays locked until the commit, so that sequence numbers follow the order of commits.
    const NEXT_SEQUENCE: &str = "update feed set last_deletion = last_deletion + 1 returning last_deletion";
    const REMOVE_EARLIER: &str = "delete from deleted_users where user_id = $1";
    const INSERT: &str = "insert into deleted_users (place, user_id, state) values ($1, $2, $3)";
    let sequence: i64 = conn.fetch_one(NEXT_SEQUENCE, args![]).await?;
    conn.execute(REMOVE_EARLIER, args![user_id]).await?;
    conn.execute(INSERT, args![sequence, user_id, state.name()]).await?;
    conn.notify(CHANNEL).await
}

/// Adds the state of an account to the list if the list has another one, because a replica of an earlier version has
/// disabled or enabled the account during an upgrade. Does nothing if the account does not exist, or is not `disabled` as
/// expected.
///
/// # Errors
/// If the database fails.
pub async fn insert_missing(conn: &mut Conn, user_id: Uuid, disabled: bool) -> Result<(), Error> {
    const IS_MISSING: &str = "
        select id from users where id = $1 and disabled = $2
            and $2 <> exists (select 1 from deleted_users where user_id = $1 and state = 'disabled')";
    if conn.fetch_optional::<Uuid>(IS_MISSING, args![user_id, disabled]).await?.is_none() {
        return Ok(());
    }
    insert(conn, user_id, if disabled { UserState::Disabled } else { UserState::Enabled }).await
}

/// A page of the list.
#[derive(Debug)]
pub struct UserChangePage {
    /// The changes, in order.
    pub changes: Vec<UserChange>,
    /// The sequence number of the last change of the page, or of the list if the page is empty.
    pub sequence: i64,
}

/// Returns at most `limit` changes after a sequence number. If `sequence` is higher than the last one, it comes from a list
/// that was lost, and the list is read from the beginning.
///
/// # Errors
/// If the database fails.
pub async fn list_after(db: &Db, sequence: i64, limit: usize) -> Result<UserChangePage, Error> {
    const SELECT: &str = "select place, user_id, state from deleted_users where place > $1 order by place limit $2";
    read_page(db, SELECT, sequence, limit).await
}

/// Returns deletions like [`list_after`], for services that know no other changes.
///
/// # Errors
/// If the database fails.
pub async fn list_deletions_after(db: &Db, sequence: i64, limit: usize) -> Result<UserChangePage, Error> {
    const SELECT: &str = "
        select place, user_id, state from deleted_users where state = 'deleted' and place > $1
        order by place limit $2";
    read_page(db, SELECT, sequence, limit).await
}

async fn read_page(db: &Db, select: &'static str, sequence: i64, limit: usize) -> Result<UserChangePage, Error> {
    const SELECT_LAST: &str = "select last_deletion from feed";
    db.read(ReadKind::Scan, move |conn| {
        Box::pin(async move {
            let last: i64 = conn.fetch_one(SELECT_LAST, args![]).await?;
            let after = if sequence > last { 0 } else { sequence };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let changes: Vec<UserChange> = conn.fetch_all(select, args![after, limit]).await?;
            let sequence = changes.last().map_or(last, |change| change.sequence);
            Ok(UserChangePage { changes, sequence })
        })
    })
    .await
}
