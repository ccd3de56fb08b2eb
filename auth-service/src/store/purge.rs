//! Deletes old rows in batches.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error},
};

/// Maximum number of rows that one statement deletes, so that other writes do not wait long.
pub const BATCH: i64 = 500;

/// Deletes a batch of the sessions that expired before `expired_before` and were not revoked later, and returns how
/// many it deleted. Revoked sessions are also kept until they expire.
///
/// # Errors
/// If the database fails.
pub async fn sessions(db: &Db, expired_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from sessions where id in (
            select id from sessions
            where expires_at < $1 and (revoked_at is null or revoked_at < $1)
            limit $2)";
    db.execute(DELETE, args![expired_before, BATCH]).await.map(u64::cast_signed)
}

/// Deletes a batch of the personal access tokens whose sessions were deleted or have ended, and returns how many it
/// deleted.
///
/// # Errors
/// If the database fails.
pub async fn personal_access_tokens(db: &Db, now: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from personal_access_tokens where id in (
            select id from personal_access_tokens tokens
            where not exists (
                select 1 from sessions
                where sessions.id = tokens.session_id and revoked_at is null and sessions.expires_at > $1)
            limit $2)";
    db.execute(DELETE, args![now, BATCH]).await.map(u64::cast_signed)
}

/// Deletes a batch of the service tokens that expired before `expired_before`, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn service_tokens(db: &Db, expired_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from service_tokens where hash in (select hash from service_tokens where expires_at < $1 limit $2)";
    db.execute(DELETE, args![expired_before, BATCH]).await.map(u64::cast_signed)
}

/// Deletes a batch of the audit events before `happened_before`, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn audit_events(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from audit_events where id in (select id from audit_events where created_at < $1 limit $2)";
    db.execute(DELETE, args![happened_before, BATCH]).await.map(u64::cast_signed)
}

/// Deletes a batch of the failed logins of unknown accounts before `happened_before`, and returns how many it deleted.
///
/// # Errors
/// If the database fails.
pub async fn failed_logins_unknown_user(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const DELETE: &str = "
        delete from failures_of_nobody where id in (
            select id from failures_of_nobody where created_at < $1 limit $2)";
    db.execute(DELETE, args![happened_before, BATCH]).await.map(u64::cast_signed)
}
