//! What concerns many rows at once, of whichever owner: the purge, and the removal of what deleted accounts owned.

use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_read, db_transaction,
};
use sqlx::{QueryBuilder, query, query_scalar};
use uuid::Uuid;

use crate::removal::STAYS_LISTED;

/// A table that goes with its owner: what deletes a batch of it.
#[derive(Clone, Copy)]
pub(crate) struct Owned(&'static str);

/// Names a table with the key `(owner_id, id)`.
macro_rules! owned {
    ($table:literal) => {
        Owned(concat!(
            "delete from ",
            $table,
            " where owner_id = $1 and id in (select id from ",
            $table,
            " where owner_id = $1 order by id limit $2)"
        ))
    };
}

/// Everything that goes with its owner.
pub(crate) const OWNED: [Owned; 1] = [owned!("tasks")];

/// Two writes of many rows would lock some of the same in different orders, and end in a deadlock; and one that finds
/// rows gone would take its batch for the last, since it is not full. The number has no meaning.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock($1)";
const MANY_ROWS_LOCK: i64 = 0x0074_6173_6b73_7701;

/// Runs a write of many rows in a transaction, while all replicas run no other. `SQLite` has one writer anyway.
macro_rules! one_at_a_time {
    ($db:expr, |$connection:ident| $body:expr) => {{
        let replicated = matches!($db, Db::Postgres(_));
        db_transaction!($db, |$connection| {
            if replicated {
                query(ONE_AT_A_TIME).bind(MANY_ROWS_LOCK).execute(&mut *$connection).await?;
            }
            $body
        })
    }};
}

/// A statement with a list of owners in the middle.
macro_rules! with_owners {
    ($before:expr, $owners:expr, $after:expr) => {{
        let mut statement = QueryBuilder::new($before);
        let mut list = statement.separated(", ");
        for owner in &$owners {
            list.push_bind(*owner);
        }
        statement.push($after);
        statement
    }};
}

/// Deletes at most `limit` tasks for good whose purge time has come, and says how many.
///
/// # Errors
/// Those of the database.
pub(crate) async fn purge(db: &Db, now: Timestamp, limit: i64) -> Result<u64, db::Error> {
    const DELETE: &str = "delete from tasks where (owner_id, id) in
        (select owner_id, id from tasks where purge_time <= $1 order by purge_time limit $2)";
    one_at_a_time!(db, |connection| {
        query(DELETE).bind(now).bind(limit).execute(connection).await.map(|done| done.rows_affected())
    })
}

/// How far the list of deleted accounts has been heard.
///
/// # Errors
/// Those of the database.
pub(crate) async fn place(db: &Db) -> Result<i64, db::Error> {
    const SELECT: &str = "select place from followed_deletions";
    db_read!(db, |connection| query_scalar(SELECT).fetch_one(connection).await)
}

/// Lists owners whose accounts are gone, and notes how far the list has been heard.
///
/// # Errors
/// Those of the database.
pub(crate) async fn hear(db: &Db, now: Timestamp, mut owners: Vec<Uuid>, place: i64) -> Result<(), db::Error> {
    const INSERT: &str = "insert into removed_owners (owner_id, heard_at, due_at) ";
    const AGAIN: &str = " on conflict (owner_id) do update set heard_at = excluded.heard_at, due_at = excluded.due_at";
    const REACHED: &str = "update followed_deletions set place = $1";
    // A statement cannot write a row twice.
    owners.sort_unstable();
    owners.dedup();
    one_at_a_time!(db, |connection| {
        let mut insert = QueryBuilder::new(INSERT);
        insert.push_values(&owners, |mut row, owner| {
            row.push_bind(*owner).push_bind(now).push_bind(now);
        });
        insert.push(AGAIN).build().persistent(false).execute(&mut *connection).await?;
        query(REACHED).bind(place).execute(connection).await.map(|_| ())
    })
}

/// The owners whose turn it is to be removed, not more than `limit`.
///
/// # Errors
/// Those of the database.
pub(crate) async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Uuid>, db::Error> {
    const SELECT: &str = "select owner_id from removed_owners where due_at <= $1 order by due_at, owner_id limit $2";
    db_read!(db, |connection| query_scalar(SELECT).bind(now).bind(limit).fetch_all(connection).await)
}

/// Deletes at most `limit` rows of an owner from one of the tables that go with it, and says how many. With several
/// owners in one statement `PostgreSQL` would read a large table from one end to the other where there is little left.
///
/// # Errors
/// Those of the database.
pub(crate) async fn remove(db: &Db, table: Owned, owner: Uuid, limit: i64) -> Result<u64, db::Error> {
    one_at_a_time!(db, |connection| {
        let remove = query(table.0).bind(owner).bind(limit);
        remove.execute(connection).await.map(|done| done.rows_affected())
    })
}

/// Notes that everything of these owners has been removed by `now`: they are due once more when no token of theirs can
/// be good, and forgotten after that. Who was heard of again meanwhile stays due.
///
/// # Errors
/// Those of the database.
pub(crate) async fn settle(db: &Db, now: Timestamp, owners: Vec<Uuid>) -> Result<(), db::Error> {
    let postpone =
        format!("update removed_owners set due_at = heard_at + {} where owner_id in (", STAYS_LISTED.as_micros());
    one_at_a_time!(db, |connection| {
        let mut forget = with_owners!("delete from removed_owners where owner_id in (", owners, ")");
        forget.push(" and due_at > heard_at and due_at <= ").push_bind(now);
        forget.build().persistent(false).execute(&mut *connection).await?;
        let mut postpone = with_owners!(postpone, owners, ")");
        postpone.push(" and due_at = heard_at and due_at <= ").push_bind(now);
        postpone.build().persistent(false).execute(connection).await.map(|_| ())
    })
}
