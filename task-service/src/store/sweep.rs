//! What concerns many rows at once, of whichever owner: the purge, and the removal of what deleted accounts owned.

use std::collections::BTreeMap;

use service_kit::{
    clock::Timestamp,
    db::{self, Db},
    db_read, db_transaction,
};
use sqlx::{QueryBuilder, query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    model::{due::due_at, filter::searched},
    removal::STAYS_LISTED,
};

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
pub(crate) const OWNED: [Owned; 5] =
    [owned!("tasks"), owned!("task_lists"), owned!("removed_tasks"), owned!("requests"), OWNERS];

/// The counter goes last: nothing else is made without one.
const OWNERS: Owned = Owned("delete from owners where owner_id = $1 and $2 > 0");

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

/// Deletes at most `limit` tasks for good whose purge time has come, and says how many. Those who follow the changes of
/// their owners learn of it: it is an act of each of them, whose row keeps all other acts waiting.
///
/// # Errors
/// Those of the database.
pub(crate) async fn purge(db: &Db, now: Timestamp, limit: i64) -> Result<u64, db::Error> {
    const DUE: &str = "
        select owner_id, id from tasks where purge_time <= $1 order by purge_time, owner_id, id limit $2";
    const ACT: &str = "update owners set last_change = last_change + 1 where owner_id in (";
    const REMEMBER: &str = "
        insert into removed_tasks (owner_id, id, change, remove_time)
        select task.owner_id, task.id, owner.last_change, ";
    const OF: &str = " from tasks task join owners owner on owner.owner_id = task.owner_id where task.purge_time <= ";
    const AGAIN: &str = " on conflict (owner_id, id) do update
        set change = excluded.change, remove_time = excluded.remove_time";
    one_at_a_time!(db, |connection| {
        let due: Vec<(Uuid, Uuid)> = query_as(DUE).bind(now).bind(limit).fetch_all(&mut *connection).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut owners: Vec<Uuid> = due.iter().map(|(owner, _)| *owner).collect();
        owners.dedup();
        with_owners!(ACT, owners, ")").build().persistent(false).execute(&mut *connection).await?;
        // One that was undeleted meanwhile is not due any more.
        let mut remember = QueryBuilder::new(REMEMBER);
        remember.push_bind(now).push(OF).push_bind(now).push(" and (task.owner_id, task.id) in ");
        remember.push_tuples(&due, |mut pair, (owner, id)| {
            pair.push_bind(*owner).push_bind(*id);
        });
        remember.push(AGAIN).build().persistent(false).execute(&mut *connection).await?;
        let mut delete = QueryBuilder::new("delete from tasks where purge_time <= ");
        delete.push_bind(now).push(" and (owner_id, id) in ");
        delete.push_tuples(&due, |mut pair, (owner, id)| {
            pair.push_bind(*owner).push_bind(*id);
        });
        delete.build().persistent(false).execute(&mut *connection).await.map(|done| done.rows_affected())
    })
}

/// Forgets at most `limit` tasks that were removed before an instant: older sync tokens than the acts that removed them
/// are then no longer good. Says how many.
///
/// # Errors
/// Those of the database.
pub(crate) async fn forget_removed(db: &Db, before: Timestamp, limit: i64) -> Result<u64, db::Error> {
    const OLD: &str = "
        select owner_id, id, change from removed_tasks where remove_time < $1 order by remove_time, owner_id, id limit $2";
    const FORGOTTEN: &str = "update owners set forgotten = $2 where owner_id = $1 and forgotten < $2";
    one_at_a_time!(db, |connection| {
        let old: Vec<(Uuid, Uuid, i64)> = query_as(OLD).bind(before).bind(limit).fetch_all(&mut *connection).await?;
        let mut forgotten = BTreeMap::new();
        for (owner, _, change) in &old {
            let last: &mut i64 = forgotten.entry(*owner).or_default();
            *last = (*last).max(*change);
        }
        for (owner, change) in &forgotten {
            query(FORGOTTEN).bind(*owner).bind(*change).execute(&mut *connection).await?;
        }
        if !old.is_empty() {
            let mut delete = QueryBuilder::new("delete from removed_tasks where (owner_id, id) in ");
            delete.push_tuples(&old, |mut pair, (owner, id, _)| {
                pair.push_bind(*owner).push_bind(*id);
            });
            delete.build().persistent(false).execute(&mut *connection).await?;
        }
        Ok(old.len() as u64)
    })
}

/// Forgets at most `limit` answers to requests that can no longer come again, and says how many.
///
/// # Errors
/// Those of the database.
pub(crate) async fn forget_requests(db: &Db, before: Timestamp, limit: i64) -> Result<u64, db::Error> {
    const DELETE: &str = "delete from requests where (owner_id, id) in
        (select owner_id, id from requests where create_time <= $1 order by create_time limit $2)";
    one_at_a_time!(db, |connection| {
        query(DELETE).bind(before).bind(limit).execute(connection).await.map(|done| done.rows_affected())
    })
}

/// A task from before there was a search.
#[derive(sqlx::FromRow)]
struct Unsearched {
    owner_id: Uuid,
    id: Uuid,
    title: String,
    notes: String,
    due_date: Option<String>,
    due_time: Option<Timestamp>,
}

/// Makes up what at most `limit` tasks lack that are from before it was kept: when they are due, and how they are
/// searched. Says how many.
///
/// # Errors
/// Those of the database.
pub(crate) async fn make_up(db: &Db, limit: i64) -> Result<u64, db::Error> {
    const OLD: &str = "
        select owner_id, id, title, notes, due_date, due_time from tasks where search = '' order by owner_id, id limit $1";
    const UPDATE: &str = "
        update tasks set search = $3, due_at = $4 where owner_id = $1 and id = $2 and search = ''";
    one_at_a_time!(db, |connection| {
        let old: Vec<Unsearched> = query_as(OLD).bind(limit).fetch_all(&mut *connection).await?;
        for task in &old {
            let update = query(UPDATE).bind(task.owner_id).bind(task.id).bind(searched(&task.title, &task.notes));
            let update = update.bind(due_at(task.due_date.as_deref(), task.due_time, ""));
            update.execute(&mut *connection).await?;
        }
        Ok(old.len() as u64)
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
