//! Sessions: one login on one device.

use std::time::Duration;

use service_kit::clock::Timestamp;
use taskey_proto::auth::v1 as pb;
use uuid::Uuid;

/// For so long after a child token was used, its parent is taken for a call that was overtaken, not for theft.
pub const OVERTAKEN: Duration = Duration::from_secs(10);

/// A row of a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The key; `sid` of the access tokens.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What the user calls it.
    pub label: String,
    /// What the client says of itself.
    pub user_agent: String,
    /// Where the login came from.
    pub ip_address: String,
    /// The number of the one refresh token that is good.
    pub generation: i64,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// When the good refresh token was issued.
    pub rotated_at: Timestamp,
    /// When the one before it was issued.
    pub previous_rotated_at: Timestamp,
    /// When the session ends unless it is refreshed before.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether it was revoked because a refresh token came a second time.
    pub reused: bool,
}

/// What to make of a refresh token that could not be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The answer to its use was lost, or two calls raced: the same child again.
    SameChild,
    /// Its child has been used a moment ago.
    Overtaken,
    /// It was used before: somebody may have copied it.
    Theft,
    /// It has been taken for stolen before.
    KnownTheft,
    /// Its session has ended by other means.
    Ended,
}

impl Session {
    /// Judges a genuine refresh token of this session that is not, or is no longer, the good one.
    #[must_use]
    pub fn judge(&self, generation: i64, now: Timestamp, grace: Duration) -> Replay {
        if self.revoked_at.is_some() {
            return if self.reused { Replay::KnownTheft } else { Replay::Ended };
        }
        if self.expires_at <= now {
            return Replay::Ended;
        }
        // The child of a token is the next generation; it was used when the one after that was issued. Only the last
        // two rotations are known: for a token more than three generations old the earlier of the two is the latest
        // that its child can have been used.
        match self.generation - generation {
            1 if now.since(self.rotated_at) <= grace => Replay::SameChild,
            2 if now.since(self.rotated_at) <= OVERTAKEN => Replay::Overtaken,
            3.. if now.since(self.previous_rotated_at) <= OVERTAKEN => Replay::Overtaken,
            // The good one itself, of an account that has been disabled; or a newer one than a restored backup knows.
            ..=0 => Replay::Ended,
            _ => Replay::Theft,
        }
    }

    /// As the user sees it, who calls from the session `current`.
    #[must_use]
    pub fn into_pb(self, current: Uuid) -> pb::Session {
        pb::Session {
            current: self.id == current,
            id: self.id.to_string(),
            label: self.label,
            user_agent: self.user_agent,
            ip_address: self.ip_address,
            create_time: Some(self.created_at.into()),
            last_used_time: Some(self.rotated_at.into()),
            expire_time: Some(self.expires_at.into()),
        }
    }
}
