//! Removes what has ended.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error},
};

/// How many rows one statement removes, so that no other write waits long.
pub const BATCH: i64 = 500;

/// Removes a batch of the sessions that ended before an instant, and returns how many there were.
///
/// # Errors
/// Those of the database.
pub async fn sessions(db: &Db, ended_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from sessions where id in (
            select id from sessions
            where expires_at < $1 and (revoked_at is null or revoked_at < $1)
            limit $2)";
    db.execute(DELETE, args![ended_before, BATCH]).await.map(u64::cast_signed)
}

/// Removes a batch of the events before an instant, and returns how many there were.
///
/// # Errors
/// Those of the database.
pub async fn audit_events(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from audit_events where id in (select id from audit_events where created_at < $1 limit $2)";
    db.execute(DELETE, args![happened_before, BATCH]).await.map(u64::cast_signed)
}

/// Removes a batch of the failed logins without an account before an instant, and returns how many there were.
///
/// # Errors
/// Those of the database.
pub async fn failed_logins_unknown_user(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from failures_of_nobody where id in (
            select id from failures_of_nobody where created_at < $1 limit $2)";
    db.execute(DELETE, args![happened_before, BATCH]).await.map(u64::cast_signed)
}

/// Removes a batch of the counters of attempts at passwords before a day, and returns how many there were.
///
/// # Errors
/// Those of the database.
pub async fn guesses(db: &Db, before_day: i64) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from guesses where address in (select address from guesses where day < $1 limit $2)";
    db.execute(DELETE, args![before_day, BATCH]).await.map(u64::cast_signed)
}
