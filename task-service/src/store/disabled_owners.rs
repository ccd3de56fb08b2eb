//! The owners whose accounts are disabled. Their webhooks send nothing until the accounts are enabled.
//!
//! The functions that change the table need the [`QUEUE_LOCK`](super::webhook_queue::QUEUE_LOCK), so that a webhook is
//! either claimed before, or left idle.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, QueryBuilder},
};
use uuid::Uuid;

use super::webhook_queue::QUEUE_LOCK;

/// Acquires the lock that the functions below need, until the commit.
///
/// # Errors
/// Those of the database.
pub(crate) async fn lock_within(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(QUEUE_LOCK).await
}

/// Adds owners. Those of them that are disabled already stay so. Their webhooks that are due become idle when a replica
/// claims them.
///
/// # Errors
/// Those of the database.
pub(crate) async fn insert_within(conn: &mut Conn, owners: &[Uuid]) -> Result<(), Error> {
    if owners.is_empty() {
        return Ok(());
    }
    let mut insert = QueryBuilder::new("insert into disabled_owners (owner_id)");
    insert.push_values(owners.iter().map(|owner| args![*owner])).push(" on conflict (owner_id) do nothing");
    let (sql, values) = insert.build();
    conn.execute(sql, values).await.map(drop)
}

/// Removes owners.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_within(conn: &mut Conn, owners: &[Uuid]) -> Result<(), Error> {
    let mut delete = QueryBuilder::new("delete from disabled_owners where owner_id in ");
    delete.push_ids(owners.iter().copied());
    let (sql, values) = delete.build();
    conn.execute(sql, values).await.map(drop)
}

/// Removes owners, and makes their active webhooks due, because changes may have been made while they were idle.
///
/// # Errors
/// Those of the database.
pub(crate) async fn enable_within(conn: &mut Conn, now: Timestamp, owners: &[Uuid]) -> Result<(), Error> {
    delete_within(conn, owners).await?;
    let mut update = QueryBuilder::new("update webhooks set due_time = ");
    update.push_bind(now).push(" where due_time is null and pause_time is null and owner_id in ");
    update.push_ids(owners.iter().copied());
    let (sql, values) = update.build();
    conn.execute(sql, values).await.map(drop)
}

/// Removes all owners, because those that are still disabled are received again. Their webhooks do not become due at once,
/// because they may be received on a later page.
///
/// # Errors
/// Those of the database.
pub(crate) async fn clear_within(conn: &mut Conn) -> Result<(), Error> {
    conn.execute("delete from disabled_owners", args![]).await.map(drop)
}

/// Reports whether the account of an owner is disabled.
///
/// # Errors
/// Those of the database.
pub(crate) async fn is_disabled(db: &Db, owner: Uuid) -> Result<bool, Error> {
    const SELECT: &str = "select owner_id from disabled_owners where owner_id = $1";
    Ok(db.fetch_optional::<Uuid>(SELECT, args![owner]).await?.is_some())
}
