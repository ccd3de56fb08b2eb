//! How sessions are revoked, and how the revocations are read.

use std::time::Duration;

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_read, db_transaction,
};
use sqlx::FromRow;
use uuid::Uuid;

/// Where revocations are announced to the other replicas.
pub const CHANNEL: &str = "taskey_revocations";

/// Places are in the order of the commits, and `revoked_at` is from before: a session may have a later one than the
/// session that follows it, but not by more than a transaction can last.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(60);

/// Which sessions to end.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// This one, whoever's it is.
    Session(Uuid),
    /// This one, if it is of this user.
    OfUser {
        /// The session.
        session_id: Uuid,
        /// The user.
        user_id: Uuid,
    },
    /// All of this user, but for the one that is named.
    AllOfUser {
        /// The user.
        user_id: Uuid,
        /// The one to leave.
        except: Option<Uuid>,
    },
}

/// Why sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody who may wanted it so.
    Wanted,
    /// A refresh token came a second time.
    Reused,
}

/// The two statements, for one way of naming sessions. Each has an index of its own, and `SQLite` does not find it
/// behind `$2 is null or`.
macro_rules! statements {
    ($scope:literal) => {
        (
            concat!(
                "update sessions set revoked_at = $1, reused = $4 where revoked_at is null and ",
                $scope,
                " returning expires_at"
            ),
            concat!(
                "update sessions set revocation = $1
                 where revocation is null and revoked_at is not null and ",
                $scope
            ),
        )
    };
}

/// Ends sessions: the only statement in the house that does. Their entries in the feed are made in the same
/// transaction. Those that had been revoked before are left as they were. Answers when each of them would have ended.
pub async fn revoke(db: &Db, now: Timestamp, which: Which, why: Why) -> Result<Vec<Timestamp>, Error> {
    const ONE: (&str, &str) = statements!("id = $2 and ($3 is null or user_id = $3)");
    const ALL: (&str, &str) = statements!("user_id = $2 and ($3 is null or id <> $3)");
    // The row stays locked until the commit, so that the places are in the order of the commits.
    const TAKE_PLACE: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";
    // It is sent when the transaction commits. On SQLite there is nobody to hear it.
    const ANNOUNCE: &str = "select pg_notify($1, '')";
    let ((revoke, enter), first, second) = match which {
        Which::Session(session_id) => (ONE, session_id, None),
        Which::OfUser { session_id, user_id } => (ONE, session_id, Some(user_id)),
        Which::AllOfUser { user_id, except } => (ALL, user_id, except),
    };
    let (reused, replicated) = (why == Why::Reused, matches!(db, Db::Postgres(_)));
    db_transaction!(db, |connection| {
        let revoked: Vec<Timestamp> = sqlx::query_scalar(revoke)
            .bind(now)
            .bind(first)
            .bind(second)
            .bind(reused)
            .fetch_all(&mut *connection)
            .await?;
        if !revoked.is_empty() {
            let place: i64 = sqlx::query_scalar(TAKE_PLACE).fetch_one(&mut *connection).await?;
            sqlx::query(enter).bind(place).bind(first).bind(second).execute(&mut *connection).await?;
            if replicated {
                sqlx::query(ANNOUNCE).bind(CHANNEL).execute(&mut *connection).await?;
            }
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

/// The sessions that were revoked after `since`, but not more than `limit`: the latest, and when the last of those was
/// revoked that are left out.
pub async fn recent(db: &Db, since: Timestamp, limit: usize) -> Result<(Vec<Uuid>, Option<Timestamp>), Error> {
    const SQL: &str = "
        select id, revoked_at from sessions
        where revocation is not null and revoked_at > $1 order by revocation desc limit $2";
    let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut rows: Vec<(Uuid, Timestamp)> =
        db_read!(db, |connection| sqlx::query_as(SQL).bind(since).bind(one_more).fetch_all(connection).await)?;
    let left_out = rows.split_off(limit.min(rows.len()));
    let last = left_out.first().map(|(_, revoked_at)| *revoked_at + TRANSACTION_LIMIT);
    Ok((rows.into_iter().map(|(id, _)| id).collect(), last))
}

/// The entries after a place, in order.
pub async fn after(db: &Db, place: i64) -> Result<Vec<Entry>, Error> {
    const SQL: &str = "
        select id, revocation from sessions
        where revocation is not null and revocation > $1 order by revocation, id";
    db_read!(db, |connection| sqlx::query_as(SQL).bind(place).fetch_all(connection).await)
}
