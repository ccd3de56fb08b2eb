//! Creates, reads and refreshes sessions. The module `revocations` revokes them.

use service_kit::{
    args,
    auth::{
        authentication::{AuthMethods, Authentication},
        scope::Scopes,
    },
    clock::Timestamp,
    db::{Db, Engine, Error, FromRow, Row, Value},
};
use uuid::Uuid;

use super::{
    audit, device_authorizations, factors,
    login_attempts::{self, Attempt},
    login_challenges, mails,
    revocations::{RevocationReason, SessionSelector, revoke_within},
    rollback::{self, Rollback},
};
use crate::model::{
    audit::Event, factor::FactorUse, login_challenge::LoginChallenge, mail::NewMail,
    personal_access_token::scopes_from_stored, refresh_token::RefreshToken, session::Session,
};

impl FromRow for Session {
    /// Reads `id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
    /// expires_at, revoked_at, reused, amr`, when the user has proved their identity, and `scope`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            user_id: row.next()?,
            label: row.next()?,
            user_agent: row.next()?,
            ip_address: row.next()?,
            generation: row.next()?,
            created_at: row.next()?,
            rotated_at: row.next()?,
            previous_rotated_at: row.next()?,
            expires_at: row.next()?,
            revoked_at: row.next()?,
            reused: row.next()?,
            authentication: Authentication {
                methods: AuthMethods::from_names(row.next_text()?.split(' ')),
                time: row.next()?,
            },
            scopes: row.next::<Option<String>>()?.map(|scopes| scopes_from_stored(&scopes)),
        })
    }
}

/// A new session.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The primary key.
    pub id: Uuid,
    /// The account of the session.
    pub user_id: Uuid,
    /// The name that the user gave to the session.
    pub label: String,
    /// The user agent of the client.
    pub user_agent: String,
    /// The IP address from which the user logged in.
    pub ip_address: String,
    /// When the session expires unless it is refreshed before.
    pub expires_at: Timestamp,
    /// When the session expires even if it is refreshed.
    pub ends_at: Timestamp,
    /// How and when the user has proved their identity.
    pub authentication: Authentication,
    /// What the access tokens permit, if they are limited.
    pub scopes: Option<Scopes>,
    /// The version of the password that was verified.
    pub password_version: i64,
    /// The password attempt, if attempts are throttled.
    pub attempt: Option<Attempt>,
    /// The second factor, if the account has one.
    pub factor: Option<FactorUse>,
    /// The challenge that the login completes, if there was one.
    pub challenge: Option<LoginChallenge>,
    /// The request of a device that the session fulfils.
    pub device_authorization: Option<Uuid>,
    /// The notice about the login, which is not stored for the first one of an account.
    pub notice: Option<NewMail>,
}

/// The outcome of a login with a correct password.
#[derive(Clone, Debug)]
pub enum NewSessionOutcome {
    /// The session was created, and this number of older sessions was revoked.
    Created(Session, usize),
    /// The account was deleted or disabled, or its password changed, after the password was verified.
    AccountChanged,
    /// The counter of wrong passwords has reached its limit since the attempt was permitted.
    Throttled,
    /// The challenge was completed before.
    ChallengeCompleted,
    /// The second factor was used before.
    FactorUsed,
    /// The device has its session already, or the session in which the user has permitted it has ended.
    PermissionUsed,
}

/// Creates a session, and records the correct password. Uses the second factor and the permission of a device, and completes
/// the challenge, if there are any. If the user now has too many sessions, revokes the oldest ones.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, new: NewSession, event: Event) -> Result<NewSessionOutcome, Error> {
    // Prevents changes of the account until the commit. Otherwise a concurrent transaction that changes it would revoke
    // all sessions but this one, which it cannot see yet. SQLite does not need the lock: it has a single writer.
    const LOCK_ACCOUNT: &str = "select 1 from users where id = $1 for share";
    const INSERT: &str = "
        insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation, amr, authenticated_at, scope)
        select $1, id, $3, $4, $5, 0, $6, $6, $6, $7, $8, null, false, null, $10, $11, $12
        from users where id = $2 and password_version = $9 and not disabled
        returning id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
            expires_at, revoked_at, reused, amr, coalesce(authenticated_at, created_at), scope";
    rollback::write(db, move |conn| {
        Box::pin(async move {
            if conn.engine() == Engine::Postgres {
                conn.execute(LOCK_ACCOUNT, args![new.user_id]).await?;
            }
            if let Some(attempt) = &new.attempt
                && !login_attempts::record_success_within(conn, now, attempt).await?
            {
                return Ok(NewSessionOutcome::Throttled);
            }
            let (user_id, notice) = (new.user_id, new.notice.clone());
            if let Some(challenge) = &new.challenge
                && !login_challenges::complete_within(conn, challenge.id, challenge.expires_at).await?
            {
                return Err(Rollback::Outcome(NewSessionOutcome::ChallengeCompleted));
            }
            if let Some(factor) = &new.factor
                && !factors::use_within(conn, now, user_id, factor).await?
            {
                return Err(Rollback::Outcome(NewSessionOutcome::FactorUsed));
            }
            if let Some(id) = new.device_authorization
                && !device_authorizations::redeem_within(conn, now, id).await?
            {
                return Err(Rollback::Outcome(NewSessionOutcome::PermissionUsed));
            }
            let Some(session) = conn.fetch_optional::<Session>(INSERT, new.into_values(now)).await? else {
                return Err(Rollback::Outcome(NewSessionOutcome::AccountChanged));
            };
            let surplus = SessionSelector::Surplus { user_id };
            let revoked = revoke_within(conn, now, surplus, RevocationReason::Requested).await?;
            if notice.is_some() && audit::has_logged_in_within(conn, user_id).await? {
                mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            }
            audit::insert(conn, now, user_id, &event).await?;
            Ok(NewSessionOutcome::Created(session, revoked.len()))
        })
    })
    .await
}

impl NewSession {
    /// Returns the arguments of the statement that inserts the session.
    fn into_values(self, now: Timestamp) -> Vec<Value> {
        let Self { id, user_id, label, user_agent, ip_address, expires_at, ends_at, password_version, .. } = self;
        let Authentication { methods, time } = self.authentication;
        let (amr, scope) = (methods.to_string(), self.scopes.map(|scopes| scopes.to_string()));
        args![id, user_id, label, user_agent, ip_address, now, expires_at, ends_at, password_version, amr, time, scope]
    }
}

/// Replaces the refresh token of a session if `token` is the current one. If several calls use the same token, only one
/// succeeds. Limits `expires_at` to the `ends_at` of the session. Returns `None` if the token is not the current one,
/// the session has ended, or the account is disabled or deleted.
///
/// # Errors
/// If the database fails.
pub async fn rotate(
    db: &Db,
    now: Timestamp,
    token: RefreshToken,
    expires_at: Timestamp,
) -> Result<Option<Session>, Error> {
    const UPDATE: &str = "
        update sessions set generation = generation + 1, previous_rotated_at = rotated_at, rotated_at = $3,
            expires_at = case when $4 < ends_at then $4 else ends_at end
        where id = $1 and generation = $2 and revoked_at is null and expires_at > $3
            and exists (select 1 from users where users.id = sessions.user_id and not users.disabled)
        returning id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
            expires_at, revoked_at, reused, amr, coalesce(authenticated_at, created_at), scope";
    db.execute_returning(UPDATE, args![token.session_id, token.generation, now, expires_at]).await
}

/// Returns a session, whether or not it is active.
///
/// # Errors
/// If the database fails.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<Session>, Error> {
    const SELECT: &str = "
        select id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
            expires_at, revoked_at, reused, amr, coalesce(authenticated_at, created_at), scope
        from sessions where id = $1";
    db.fetch_optional(SELECT, args![id]).await
}

/// Reports whether a user has a session, active or not, that was not removed yet.
///
/// # Errors
/// If the database fails.
pub async fn exists(db: &Db, user_id: Uuid) -> Result<bool, Error> {
    const SELECT: &str = "select id from sessions where user_id = $1 limit 1";
    let session: Option<Uuid> = db.fetch_optional(SELECT, args![user_id]).await?;
    Ok(session.is_some())
}

/// Returns the active sessions of a user, newest first, without those of personal access tokens.
///
/// # Errors
/// If the database fails.
pub async fn list_active(db: &Db, now: Timestamp, user_id: Uuid) -> Result<Vec<Session>, Error> {
    const SELECT: &str = "
        select id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at, previous_rotated_at,
            expires_at, revoked_at, reused, amr, coalesce(authenticated_at, created_at), scope
        from sessions
        where user_id = $1 and revoked_at is null and revocation is null and expires_at > $2
            and not personal_access_token
        order by id desc";
    db.fetch_all(SELECT, args![user_id, now]).await
}
