//! How sessions are revoked, and how the revocations are read.

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_read, db_transaction,
};
use sqlx::FromRow;
use uuid::Uuid;

/// Which sessions to end. What is absent does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which {
    /// This one.
    pub session_id: Option<Uuid>,
    /// Those of this user.
    pub user_id: Option<Uuid>,
    /// All but this one.
    pub except: Option<Uuid>,
    /// Because a refresh token came a second time.
    pub reused: bool,
}

/// Ends sessions: the only statement in the house that does. Their entries in the feed are made in the same
/// transaction. Those that had been revoked before are left as they were. Answers when each of them would have ended.
pub async fn revoke(db: &Db, now: Timestamp, which: Which) -> Result<Vec<Timestamp>, Error> {
    const REVOKE: &str = "
        update sessions set revoked_at = $1, reused = $5
        where revoked_at is null and ($2 is null or id = $2) and ($3 is null or user_id = $3)
            and ($4 is null or id <> $4)
        returning expires_at";
    // The row stays locked until the commit, so that the places are in the order of the commits.
    const TAKE_PLACE: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";
    const ENTER: &str = "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and ($2 is null or id = $2)
            and ($3 is null or user_id = $3)";
    db_transaction!(db, |connection| {
        let revoked: Vec<Timestamp> = sqlx::query_scalar(REVOKE)
            .bind(now)
            .bind(which.session_id)
            .bind(which.user_id)
            .bind(which.except)
            .bind(which.reused)
            .fetch_all(&mut *connection)
            .await?;
        if !revoked.is_empty() {
            let place: i64 = sqlx::query_scalar(TAKE_PLACE).fetch_one(&mut *connection).await?;
            sqlx::query(ENTER).bind(place).bind(which.session_id).bind(which.user_id).execute(&mut *connection).await?;
        }
        Ok(revoked)
    })
}

/// An entry of the feed.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Entry {
    /// The session.
    pub id: Uuid,
    /// Its place. Sessions that were revoked in one act share one.
    pub revocation: i64,
}

/// The last place that is taken.
pub async fn last_place(db: &Db) -> Result<i64, Error> {
    const SQL: &str = "select last_revocation from feed";
    db_read!(db, |connection| sqlx::query_scalar(SQL).fetch_one(connection).await)
}

/// The sessions that were revoked after `since`.
pub async fn recent(db: &Db, since: Timestamp) -> Result<Vec<Uuid>, Error> {
    const SQL: &str = "select id from sessions where revocation is not null and revoked_at > $1";
    db_read!(db, |connection| sqlx::query_scalar(SQL).bind(since).fetch_all(connection).await)
}

/// The entries after a place, in order.
pub async fn after(db: &Db, place: i64) -> Result<Vec<Entry>, Error> {
    const SQL: &str = "
        select id, revocation from sessions
        where revocation is not null and revocation > $1 order by revocation, id";
    db_read!(db, |connection| sqlx::query_as(SQL).bind(place).fetch_all(connection).await)
}
