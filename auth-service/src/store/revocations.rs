//! Revokes sessions, and reads which ones have been revoked.

use std::time::Duration;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::audit::Event;

/// The channel on which replicas are notified of revocations.
pub const CHANNEL: &str = "taskey_revocations";

/// Sequence numbers are in the order of the commits, and `revoked_at` is from before: a session may have a later one
/// than the session that follows it, but not by more than a transaction can last.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(60);

/// Which sessions to revoke.
#[derive(Clone, Copy, Debug)]
pub enum SessionSelector {
    /// One session of any user.
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
    /// The oldest of this user, so that no more than 20 are left.
    Surplus {
        /// The user.
        user_id: Uuid,
    },
}

/// Why sessions are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    /// Somebody who may has asked for it.
    Requested,
    /// A refresh token was used a second time.
    TokenReused,
}

/// A session that has just been revoked.
#[derive(Clone, Copy, Debug)]
pub struct RevokedSession {
    /// Whose it was.
    pub user_id: Uuid,
    /// When it would have ended.
    pub expires_at: Timestamp,
}

impl FromRow for RevokedSession {
    /// Reads `user_id, expires_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { user_id: row.next()?, expires_at: row.next()? })
    }
}

/// The statements for one way of selecting sessions, both with the arguments `$2` and `$3`. Each way has an index of
/// its own, and SQLite does not find it behind `$2 is null or`.
struct Statements {
    /// Revokes them at `$1`, and records whether a token was reused (`$4`).
    revoke: &'static str,
    /// Gives them the sequence number `$1`.
    number: &'static str,
}

const ONE: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and id = $2 and ($3 is null or user_id = $3)
        returning user_id, expires_at",
    number: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and id = $2 and ($3 is null or user_id = $3)",
};

const ALL: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and user_id = $2 and ($3 is null or id <> $3)
        returning user_id, expires_at",
    number: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and user_id = $2 and ($3 is null or id <> $3)",
};

const SURPLUS: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and id in (
            select id from sessions where user_id = $2 and $3 is null and revoked_at is null
                and expires_at > $1 order by id desc limit 1000000 offset 20)
        returning user_id, expires_at",
    number: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and user_id = $2 and $3 is null",
};

impl SessionSelector {
    /// Returns the statements, and their arguments `$2` and `$3`.
    fn statements(self) -> (Statements, Uuid, Option<Uuid>) {
        match self {
            Self::Session(session_id) => (ONE, session_id, None),
            Self::OfUser { session_id, user_id } => (ONE, session_id, Some(user_id)),
            Self::AllOfUser { user_id, except } => (ALL, user_id, except),
            Self::Surplus { user_id } => (SURPLUS, user_id, None),
        }
    }
}

/// Revokes sessions, and adds an event to the audit log if there were any. Returns those that it has revoked.
///
/// # Errors
/// Those of the database.
pub async fn revoke(
    db: &Db,
    now: Timestamp,
    selector: SessionSelector,
    reason: RevocationReason,
    event: Event,
) -> Result<Vec<RevokedSession>, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let revoked = revoke_within(conn, now, selector, reason).await?;
            // A logout names the session, and its row says whose it was.
            if let Some(session) = revoked.first() {
                audit::insert(conn, now, session.user_id, &event).await?;
            }
            Ok(revoked)
        })
    })
    .await
}

/// Revokes sessions within a transaction, and gives them the next sequence number of the feed. This is the only
/// function that revokes. Sessions that were revoked before stay as they were. Returns those that it has revoked.
///
/// # Errors
/// Those of the database.
pub async fn revoke_within(
    conn: &mut Conn,
    now: Timestamp,
    selector: SessionSelector,
    reason: RevocationReason,
) -> Result<Vec<RevokedSession>, Error> {
    // The row stays locked until the commit, so that the numbers are in the order of the commits.
    const NEXT: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";
    let (statements, first, second) = selector.statements();
    let is_reused = reason == RevocationReason::TokenReused;
    let revoked: Vec<RevokedSession> = conn.fetch_all(statements.revoke, args![now, first, second, is_reused]).await?;
    if !revoked.is_empty() {
        let sequence: i64 = conn.fetch_one(NEXT, args![]).await?;
        conn.execute(statements.number, args![sequence, first, second]).await?;
        conn.notify(CHANNEL).await?;
    }
    Ok(revoked)
}

/// An entry of the feed.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// The session.
    pub session_id: Uuid,
    /// Its sequence number. Sessions that were revoked in one transaction share one.
    pub sequence: i64,
}

impl FromRow for Revocation {
    /// Reads `id, revocation`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { session_id: row.next()?, sequence: row.next()? })
    }
}

/// How far the feed has come.
#[derive(Clone, Copy, Debug)]
pub struct FeedPosition {
    /// The last sequence number of a revocation.
    pub last_revocation: i64,
    /// How many accounts have been deleted.
    pub last_deletion: i64,
}

impl FromRow for FeedPosition {
    /// Reads `last_revocation, last_deletion`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { last_revocation: row.next()?, last_deletion: row.next()? })
    }
}

const POSITION: &str = "select last_revocation, last_deletion from feed";

/// Returns how far the feed has come.
///
/// # Errors
/// Those of the database.
pub async fn position(db: &Db) -> Result<FeedPosition, Error> {
    db.fetch_optional(POSITION, args![]).await?.ok_or(Error::RowNotFound)
}

/// Returns the epoch of the database, which identifies its sequence numbers. A database that has none gets `new`.
///
/// # Errors
/// Those of the database.
pub async fn epoch(db: &Db, new: Uuid) -> Result<Uuid, Error> {
    const SELECT: &str = "select epoch from feed where epoch is not null";
    if let Some(epoch) = db.fetch_optional(SELECT, args![]).await? {
        return Ok(epoch);
    }
    // Of replicas that start at the same time, one succeeds.
    db.execute("update feed set epoch = $1 where epoch is null", args![new]).await?;
    db.fetch_optional(SELECT, args![]).await?.ok_or(Error::RowNotFound)
}

/// Returns the latest sessions that were revoked after `since`, at most `limit`, and when the last of those was revoked
/// that are left out.
///
/// # Errors
/// Those of the database.
pub async fn recent(db: &Db, since: Timestamp, limit: usize) -> Result<(Vec<Uuid>, Option<Timestamp>), Error> {
    const SELECT: &str = "
        select id, revoked_at from sessions
        where revocation is not null and revoked_at > $1 order by revocation desc limit $2";
    let one_more = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut rows: Vec<(Uuid, Timestamp)> = db.fetch_all(SELECT, args![since, one_more]).await?;
    let left_out = rows.split_off(limit.min(rows.len()));
    let last = left_out.first().map(|(_, revoked_at)| *revoked_at + TRANSACTION_LIMIT);
    Ok((rows.into_iter().map(|(id, _)| id).collect(), last))
}

/// Returns the entries after a sequence number, in order, and how many accounts have been deleted.
///
/// # Errors
/// Those of the database.
pub async fn list_after(db: &Db, sequence: i64) -> Result<(Vec<Revocation>, i64), Error> {
    const SELECT: &str = "
        select id, revocation from sessions
        where revocation is not null and revocation > $1 order by revocation, id";
    // Few have been revoked since the last time, and they must not wait behind scans.
    db.read(ReadKind::Point, move |conn| {
        Box::pin(async move {
            let revocations = conn.fetch_all(SELECT, args![sequence]).await?;
            let FeedPosition { last_deletion, .. } = conn.fetch_one(POSITION, args![]).await?;
            Ok((revocations, last_deletion))
        })
    })
    .await
}
