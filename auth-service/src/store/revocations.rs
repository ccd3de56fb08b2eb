//! How sessions are revoked, and how the revocations are read.

use std::time::Duration;

use service_kit::{
    clock::Timestamp,
    db::{Db, Error},
    db_read,
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
    /// The oldest of this user, so that not more than 20 are left.
    Surplus {
        /// The user.
        user_id: Uuid,
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

/// A session that has just been ended.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Ended {
    /// Whose it was.
    pub user_id: Uuid,
    /// When it would have ended.
    pub expires_at: Timestamp,
}

/// The two statements, for one way of naming sessions. Each has an index of its own, and `SQLite` does not find it
/// behind `$2 is null or`.
macro_rules! statements {
    ($scope:expr, $entered:expr) => {
        (
            concat!(
                "update sessions set revoked_at = $1, reused = $4 where revoked_at is null and ",
                $scope,
                " returning user_id, expires_at"
            ),
            concat!(
                "update sessions set revocation = $1
                 where revocation is null and revoked_at is not null and ",
                $entered
            ),
        )
    };
}

impl Which {
    /// The statements that end the sessions and enter them into the feed, and what both bind as `$2` and `$3`.
    pub(super) fn statements(self) -> ((&'static str, &'static str), Uuid, Option<Uuid>) {
        const ONE: (&str, &str) =
            statements!("id = $2 and ($3 is null or user_id = $3)", "id = $2 and ($3 is null or user_id = $3)");
        const ALL: (&str, &str) =
            statements!("user_id = $2 and ($3 is null or id <> $3)", "user_id = $2 and ($3 is null or id <> $3)");
        const SURPLUS: (&str, &str) = statements!(
            "id in (select id from sessions where user_id = $2 and $3 is null and revoked_at is null
                    and expires_at > $1 order by id desc limit 1000000 offset 20)",
            "user_id = $2 and $3 is null"
        );
        match self {
            Self::Session(session_id) => (ONE, session_id, None),
            Self::OfUser { session_id, user_id } => (ONE, session_id, Some(user_id)),
            Self::AllOfUser { user_id, except } => (ALL, user_id, except),
            Self::Surplus { user_id } => (SURPLUS, user_id, None),
        }
    }
}

/// Ends sessions, within a transaction: the only statement in the house that does. Their entries in the feed are made
/// with it. Those that had been revoked before are left as they were. Its value is those that it has ended.
macro_rules! end_sessions {
    ($connection:expr, $replicated:expr, $now:expr, $which:expr, $why:expr) => {{
        let ((revoke, enter), first, second) = $which.statements();
        let ended: Vec<$crate::store::revocations::Ended> = ::sqlx::query_as(revoke)
            .bind($now)
            .bind(first)
            .bind(second)
            .bind($why == $crate::store::revocations::Why::Reused)
            .fetch_all(&mut *$connection)
            .await?;
        if !ended.is_empty() {
            let take_place = ::sqlx::query_scalar($crate::store::revocations::TAKE_PLACE);
            let place: i64 = take_place.fetch_one(&mut *$connection).await?;
            ::sqlx::query(enter).bind(place).bind(first).bind(second).execute(&mut *$connection).await?;
            if $replicated {
                let announce = ::sqlx::query($crate::store::revocations::ANNOUNCE);
                announce.bind($crate::store::revocations::CHANNEL).execute(&mut *$connection).await?;
            }
        }
        ended
    }};
}
pub(super) use end_sessions;

/// The row stays locked until the commit, so that the places are in the order of the commits.
pub(super) const TAKE_PLACE: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";

/// It is sent when the transaction commits. On `SQLite` there is nobody to hear it.
pub(super) const ANNOUNCE: &str = "select pg_notify($1, '')";

/// An entry of the feed.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Entry {
    /// The session.
    pub id: Uuid,
    /// Its place. Sessions that were revoked in one act share one.
    pub revocation: i64,
}

/// How far the feed has come.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Places {
    /// The last place of a revocation.
    pub last_revocation: i64,
    /// How many accounts have been deleted.
    pub last_deletion: i64,
}

const PLACES: &str = "select last_revocation, last_deletion from feed";

/// The last places that are taken.
pub async fn last_places(db: &Db) -> Result<Places, Error> {
    db_read!(db, |connection| sqlx::query_as(PLACES).fetch_one(connection).await)
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

/// The entries after a place, in order, and how many accounts have been deleted.
pub async fn after(db: &Db, place: i64) -> Result<(Vec<Entry>, i64), Error> {
    const SQL: &str = "
        select id, revocation from sessions
        where revocation is not null and revocation > $1 order by revocation, id";
    db_read!(db, |connection| {
        let entries = sqlx::query_as(SQL).bind(place).fetch_all(&mut *connection).await?;
        let Places { last_deletion, .. } = sqlx::query_as(PLACES).fetch_one(&mut *connection).await?;
        Ok((entries, last_deletion))
    })
}
