//! Removes what has ended.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_write,
};

/// How many rows one statement removes, so that no other write waits long.
pub const BATCH: i64 = 500;

/// Removes a batch of sessions that ended before `ended_before`, and says how many there were.
pub async fn sessions(db: &Db, ended_before: Timestamp) -> Result<i64, Error> {
    const SQL: &str = "
        delete from sessions where id in (
            select id from sessions
            where expires_at < $1 and (revoked_at is null or revoked_at < $1)
            limit $2)";
    db_write!(db, |connection| {
        sqlx::query(SQL)
            .bind(ended_before)
            .bind(BATCH)
            .execute(connection)
            .await
            .map(|done| done.rows_affected().cast_signed())
    })
}

/// Removes a batch of the events that happened before `happened_before`, and says how many there were.
pub async fn audit_events(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const SQL: &str = "
        delete from audit_events where id in (select id from audit_events where created_at < $1 limit $2)";
    db_write!(db, |connection| {
        sqlx::query(SQL)
            .bind(happened_before)
            .bind(BATCH)
            .execute(connection)
            .await
            .map(|done| done.rows_affected().cast_signed())
    })
}

/// Removes a batch of the failed logins of nobody that happened before `happened_before`, and says how many there were.
pub async fn failures_of_nobody(db: &Db, happened_before: Timestamp) -> Result<i64, Error> {
    const SQL: &str = "
        delete from failures_of_nobody where id in (
            select id from failures_of_nobody where created_at < $1 limit $2)";
    db_write!(db, |connection| {
        sqlx::query(SQL)
            .bind(happened_before)
            .bind(BATCH)
            .execute(connection)
            .await
            .map(|done| done.rows_affected().cast_signed())
    })
}

/// Removes a batch of what is known of guesses before a day, and says how much there was.
pub async fn guesses(db: &Db, before_day: i64) -> Result<i64, Error> {
    const SQL: &str = "
        delete from guesses where address in (select address from guesses where day < $1 limit $2)";
    db_write!(db, |connection| {
        sqlx::query(SQL)
            .bind(before_day)
            .bind(BATCH)
            .execute(connection)
            .await
            .map(|done| done.rows_affected().cast_signed())
    })
}
