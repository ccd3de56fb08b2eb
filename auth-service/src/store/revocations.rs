//! Revokes sessions.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use uuid::Uuid;

use super::{audit, feed, mails};
use crate::model::{audit::Event, mail::NewMail};

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
    /// The oldest sessions of this user, so that at most 20 remain. Those of personal access tokens do not count.
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
/// The condition `revocation is null`, which all sessions that are not revoked meet, selects the partial index
/// `sessions_to_revoke`, without which each login would read all sessions of its user that were revoked lately.
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
        where revoked_at is null and revocation is null and user_id = $2 and ($3 is null or id <> $3)
        returning user_id, expires_at",
    assign_sequence: "
        update sessions set revocation = $1
        where revocation is null and revoked_at is not null and user_id = $2 and ($3 is null or id <> $3)",
};

const SURPLUS: Statements = Statements {
    revoke: "
        update sessions set revoked_at = $1, reused = $4
        where revoked_at is null and id in (
            select id from sessions where user_id = $2 and $3 is null and revoked_at is null and revocation is null
                and expires_at > $1 and not personal_access_token order by id desc limit 1000000 offset 20)
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

/// Revokes sessions and returns them. If it revoked any, adds an event to the audit log, and stores the notice about it.
///
/// # Errors
/// If the database fails.
pub async fn revoke(
    db: &Db,
    now: Timestamp,
    selector: SessionSelector,
    reason: RevocationReason,
    (event, notice): (Event, Option<NewMail>),
) -> Result<Vec<RevokedSession>, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let revoked = revoke_within(conn, now, selector, reason).await?;
            // A logout specifies only the session, so the user of the event comes from the revoked row.
            if let Some(session) = revoked.first() {
                audit::insert(conn, now, session.user_id, &event).await?;
                mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            } else if let SessionSelector::Session(session_id) = selector
                && !exists(conn, session_id).await?
            {
                // The database has lost the session, for example in a failover. Its access tokens may still be valid.
                feed::restore_within(conn, now, &[session_id]).await?;
            }
            Ok(revoked)
        })
    })
    .await
}

async fn exists(conn: &mut Conn, session_id: Uuid) -> Result<bool, Error> {
    let found: Option<Uuid> = conn.fetch_optional("select id from sessions where id = $1", args![session_id]).await?;
    Ok(found.is_some())
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
    let (statements, second_arg, third_arg) = selector.statements();
    let is_reused = reason == RevocationReason::TokenReused;
    let revoked: Vec<RevokedSession> =
        conn.fetch_all(statements.revoke, args![now, second_arg, third_arg, is_reused]).await?;
    if !revoked.is_empty() {
        let sequence = feed::next_sequence(conn).await?;
        conn.execute(statements.assign_sequence, args![sequence, second_arg, third_arg]).await?;
    }
    Ok(revoked)
}
