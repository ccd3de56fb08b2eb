//! The sessions with which service accounts act on behalf of users. Their tokens have the session of the user, and contain the
//! session of the service account, so that they end with either.

use std::time::Duration;

use quick_cache::sync::Cache;
use service_kit::{
    auth::{actor::Actor, claims::LEEWAY},
    clock::{Clock, Timestamp},
    db::Db,
    status::ApiError,
};
use uuid::Uuid;

use crate::{error, model::service_account::SecretHash, store::service_accounts};

/// The lifetime of a session. The exchanges of a service account at this replica share one, because each is stored for a day.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Maximum number of sessions in memory: one for each secret of each service account. Others are replaced by new ones.
const MAX_SESSIONS: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct ActorSession {
    id: Uuid,
    expires_at: Timestamp,
}

/// The sessions by service account, and by the hash of the secret with which it has authenticated, unless that was a
/// certificate. A session ends with its secret, so it must not be used with another one.
pub struct ActorSessions {
    db: Db,
    clock: Clock,
    sessions: Cache<(Uuid, Option<String>), ActorSession>,
}

impl ActorSessions {
    /// Creates the sessions when they are used.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, sessions: Cache::new(MAX_SESSIONS) }
    }

    /// Returns a service account as the actor of a token that expires at this time. The token is refused as soon as the session
    /// of the actor is revoked. `secret` is that with which the service account has authenticated.
    ///
    /// # Errors
    /// CLIENT_INVALID if the service account was changed in the meantime.
    pub async fn actor(
        &self,
        id: Uuid,
        secret: Option<SecretHash>,
        token_expires_at: Timestamp,
    ) -> Result<Actor, ApiError> {
        let (now, key) = (self.clock.now(), (id, secret.as_ref().map(|secret| secret.0.clone())));
        let session = self.sessions.get(&key);
        if let Some(session) = session.filter(|session| session.expires_at >= token_expires_at + LEEWAY) {
            // The database may have lost the session.
            let actor = Actor { id, session_id: Some(session.id) };
            if service_accounts::have_active_sessions(&self.db, now, &[actor]).await? {
                return Ok(actor);
            }
        }
        let session = ActorSession { id: self.clock.new_id(), expires_at: now + LIFETIME };
        if !service_accounts::insert_session(&self.db, now, session.id, id, secret, session.expires_at).await? {
            return Err(error::client_invalid());
        }
        self.sessions.insert(key, session);
        Ok(Actor { id, session_id: Some(session.id) })
    }
}
