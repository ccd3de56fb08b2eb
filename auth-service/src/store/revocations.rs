//! Revokes sessions, and lists the revoked ones.

use std::time::Duration;

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::audit::Event;

/// The channel on which replicas are notified of revocations and deleted accounts.
pub const CHANNEL: &str = "taskey_revocations";

/// Upper bound on the duration of a transaction. Sequence numbers follow the order of commits, but `revoked_at` is set
/// earlier. The `revoked_at` of a session may therefore be later than that of a session with a higher sequence number,
/// by at most this time.
const MAX_TRANSACTION_DURATION: Duration = Duration::from_secs(60);

/// Selects the sessions to revoke.
#[derive(Clone, Copy, Debug)]
pub enum SessionSelector {
    /// This session, regardless of its user.
    Session(Uuid),
    /// This session, if it belongs to this user.
    SessionOfUser {
        /// The session.
        session_id: Uuid,
        /// The user.
        user_id: Uuid,
    },
    /// All sessions of this user except one.
    AllOfUser {
        /// The user.
        user_id: Uuid,
        /// The session to keep.
        except: Option<Uuid>,
    },
    /// The oldest sessions of this user, so that at most 20 remain.
    Surplus {
        /// The user.
        user_id: Uuid,
    },
}

/// Why sessions are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    /// Any reason except token reuse, for example a logout or a password change.
    Requested,
    /// A refresh token was reused.
    TokenReused,
}

/// A session that has just been revoked.
#[derive(Clone, Copy, Debug)]
pub struct RevokedSession {
    /// The account of the session.
    pub user_id: Uuid,
    /// When the session would have expired.
    pub expires_at: Timestamp,
}

impl FromRow for RevokedSession {
    /// Reads `user_id, expires_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { user_id: row.next()?, expires_at: row.next()? })
    }
}

/// The statements for one kind of selector. Both use the arguments `$2` and `$3`, even where `$3` is always null. The
/// kinds do not share statements, because SQLite would not use their indexes if a condition contained `$2 is null or`.
struct Statements {
    /// Revokes the sessions at the time `$1`, and stores whether a token was reused (`$4`).
    revoke: &'static str,
    /// Assigns the sequence number `$1` to the sessions.
    assign_sequence: &'static str,
}

const SINGLE: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and id = $2 and ($3 is null or user_id = $3)
        returning user_id, expires_at",
    assign_sequence: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and id = $2 and ($3 is null or user_id = $3)",
};

const ALL_OF_USER: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and user_id = $2 and ($3 is null or id <> $3)
        returning user_id, expires_at",
    assign_sequence: "
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
    assign_sequence: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and user_id = $2 and $3 is null",
};

impl SessionSelector {
    /// Returns the statements and their arguments `$2` and `$3`.
    fn statements(self) -> (Statements, Uuid, Option<Uuid>) {
        match self {
            Self::Session(session_id) => (SINGLE, session_id, None),
            Self::SessionOfUser { session_id, user_id } => (SINGLE, session_id, Some(user_id)),
            Self::AllOfUser { user_id, except } => (ALL_OF_USER, user_id, except),
            Self::Surplus { user_id } => (SURPLUS, user_id, None),
        }
    }
}

/// Revokes sessions and returns them. Adds an event to the audit log if it revoked any.
///
/// # Errors
/// If the database fails.
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
            // A logout specifies only the session, so the user of the event comes from the revoked row.
            if let Some(session) = revoked.first() {
                audit::insert(conn, now, session.user_id, &event).await?;
            }
            Ok(revoked)
        })
    })
    .await
}

/// Revokes sessions within a transaction, assigns them the next sequence number of the feed, and returns them. Sessions
/// that are already revoked do not change and are not returned. All revocations use this function.
///
/// # Errors
/// If the database fails.
pub async fn revoke_within(
    conn: &mut Conn,
    now: Timestamp,
    selector: SessionSelector,
    reason: RevocationReason,
) -> Result<Vec<RevokedSession>, Error> {
    // The row stays locked until the commit, so that sequence numbers follow the order of commits.
    const NEXT_SEQUENCE: &str = "update feed set last_revocation = last_revocation + 1 returning last_revocation";
    let (statements, second_arg, third_arg) = selector.statements();
    let is_reused = reason == RevocationReason::TokenReused;
    let revoked: Vec<RevokedSession> =
        conn.fetch_all(statements.revoke, args![now, second_arg, third_arg, is_reused]).await?;
    if !revoked.is_empty() {
        let sequence: i64 = conn.fetch_one(NEXT_SEQUENCE, args![]).await?;
        conn.execute(statements.assign_sequence, args![sequence, second_arg, third_arg]).await?;
        conn.notify(CHANNEL).await?;
    }
    Ok(revoked)
}

/// An entry of the feed.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// The session.
    pub session_id: Uuid,
    /// The sequence number. Sessions that were revoked by the same call share it.
    pub sequence: i64,
}

impl FromRow for Revocation {
    /// Reads `id, revocation`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { session_id: row.next()?, sequence: row.next()? })
    }
}

/// The last sequence numbers of the feed.
#[derive(Clone, Copy, Debug)]
pub struct FeedPosition {
    /// The sequence number of the last revocation.
    pub last_revocation: i64,
    /// The sequence number of the last deletion of an account.
    pub last_deletion: i64,
}

impl FromRow for FeedPosition {
    /// Reads `last_revocation, last_deletion`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { last_revocation: row.next()?, last_deletion: row.next()? })
    }
}

const POSITION: &str = "select last_revocation, last_deletion from feed";

/// Returns the last sequence numbers of the feed.
///
/// # Errors
/// If the database fails.
pub async fn position(db: &Db) -> Result<FeedPosition, Error> {
    db.fetch_optional(POSITION, args![]).await?.ok_or(Error::RowNotFound)
}

/// Returns the epoch of the database, which identifies its sequence numbers. Sets it to `new` if it has none.
///
/// # Errors
/// If the database fails.
pub async fn epoch(db: &Db, new: Uuid) -> Result<Uuid, Error> {
    const SELECT: &str = "select epoch from feed where epoch is not null";
    if let Some(epoch) = db.fetch_optional(SELECT, args![]).await? {
        return Ok(epoch);
    }
    // If several replicas start at the same time, the first one sets the epoch.
    db.execute("update feed set epoch = $1 where epoch is null", args![new]).await?;
    db.fetch_optional(SELECT, args![]).await?.ok_or(Error::RowNotFound)
}

/// Returns at most `limit` of the sessions that were revoked after `since`, latest first. If it omits any, also returns
/// an upper bound of their `revoked_at`.
///
/// # Errors
/// If the database fails.
pub async fn recent(db: &Db, since: Timestamp, limit: usize) -> Result<(Vec<Uuid>, Option<Timestamp>), Error> {
    const SELECT: &str = "
        select id, revoked_at from sessions
        where revocation is not null and revoked_at > $1 order by revocation desc limit $2";
    let limit_plus_one = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut rows: Vec<(Uuid, Timestamp)> = db.fetch_all(SELECT, args![since, limit_plus_one]).await?;
    let omitted = rows.split_off(limit.min(rows.len()));
    let omitted_until = omitted.first().map(|(_, revoked_at)| *revoked_at + MAX_TRANSACTION_DURATION);
    Ok((rows.into_iter().map(|(id, _)| id).collect(), omitted_until))
}

/// Returns the revocations after a sequence number, in order, and the sequence number of the last deletion of an
/// account.
///
/// # Errors
/// If the database fails.
pub async fn list_after(db: &Db, sequence: i64) -> Result<(Vec<Revocation>, i64), Error> {
    const SELECT: &str = "
        select id, revocation from sessions
        where revocation is not null and revocation > $1 order by revocation, id";
    // Not a scan: the result is small, because the feed reads often, and it must not wait behind scans.
    db.read(ReadKind::Point, move |conn| {
        Box::pin(async move {
            let revocations = conn.fetch_all(SELECT, args![sequence]).await?;
            let FeedPosition { last_deletion, .. } = conn.fetch_one(POSITION, args![]).await?;
            Ok((revocations, last_deletion))
        })
    })
    .await
}
