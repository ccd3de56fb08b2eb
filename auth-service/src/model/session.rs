//! Sessions, each of which is one login on one device.

use std::time::Duration;

use service_kit::{
    auth::{authentication::Authentication, scope::Scopes},
    clock::Timestamp,
};
use uuid::Uuid;

/// A refresh token that is reused within this time after its successor was used is a delayed call, not theft.
pub const SUPERSEDED_GRACE: Duration = Duration::from_secs(10);

/// A row of the sessions table.
#[derive(Clone, Debug)]
pub struct Session {
    /// The primary key, which is `sid` in access tokens.
    pub id: Uuid,
    /// The account of the session.
    pub user_id: Uuid,
    /// The name that the user gave to the session.
    pub label: String,
    /// The user agent of the client.
    pub user_agent: String,
    /// The IP address from which the user logged in.
    pub ip_address: String,
    /// The generation of the only valid refresh token.
    pub generation: i64,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// When the valid refresh token was issued.
    pub rotated_at: Timestamp,
    /// When the previous refresh token was issued.
    pub previous_rotated_at: Timestamp,
    /// When the session expires unless it is refreshed before.
    pub expires_at: Timestamp,
    /// When the session was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether the session was revoked because a refresh token was reused.
    pub reused: bool,
    /// How and when the user has proved their identity.
    pub authentication: Authentication,
    /// What the access tokens permit, or `None` if they permit all that the roles of the user do.
    pub scopes: Option<Scopes>,
}

/// Why a refresh token could not be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It was just used: its response was lost, or two calls raced. The client receives the same successor again.
    SameSuccessor,
    /// Its successor was used within [`SUPERSEDED_GRACE`].
    Superseded,
    /// It was used before, and may have been copied.
    Theft,
    /// It belongs to a session that was revoked because of a reused token.
    KnownTheft,
    /// Its session has ended for another reason.
    Ended,
}

impl Session {
    /// Classifies an authentic refresh token of this session that could not be rotated.
    #[must_use]
    pub fn classify_replay(&self, generation: i64, now: Timestamp, grace: Duration) -> Replay {
        if self.revoked_at.is_some() {
            return if self.reused { Replay::KnownTheft } else { Replay::Ended };
        }
        if self.expires_at <= now {
            return Replay::Ended;
        }
        // The successor of a token is the next generation. It was used when the generation after it was issued. Only
        // the times of the last two rotations are stored. The successor of a token that is three or more generations
        // old was used at the earlier of the two, or before.
        match self.generation - generation {
            1 if now.since(self.rotated_at) <= grace => Replay::SameSuccessor,
            2 if now.since(self.rotated_at) <= SUPERSEDED_GRACE => Replay::Superseded,
            3.. if now.since(self.previous_rotated_at) <= SUPERSEDED_GRACE => Replay::Superseded,
            // The current token of a disabled account, or a token that was issued after a restored backup was made.
            ..=0 => Replay::Ended,
            _ => Replay::Theft,
        }
    }
}
