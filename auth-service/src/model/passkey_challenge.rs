//! The challenges that passkeys sign. They are not stored until they are used: a challenge contains what it is for,
//! encrypted, so that clients that begin a login cost no write.

use std::time::Duration;

use service_kit::{clock::Timestamp, random};
use uuid::Uuid;

use super::{
    refresh_token::RefreshKeys,
    sealed::{self, Purpose},
};

/// How long a challenge can be used.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// What a challenge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Creating a passkey for an account.
    Registration(Uuid),
    /// Logging in without a password.
    Login,
    /// Completing a login to an account.
    SecondFactor(Uuid),
    /// Proving the identity of a user again.
    Reauthentication {
        /// The account.
        user_id: Uuid,
        /// The session.
        session_id: Uuid,
    },
}

impl Use {
    /// Returns the account to which the passkey must belong. `None` if any account is accepted.
    #[must_use]
    pub fn user_id(self) -> Option<Uuid> {
        match self {
            Self::Login => None,
            Self::Registration(user_id) | Self::SecondFactor(user_id) | Self::Reauthentication { user_id, .. } => {
                Some(user_id)
            }
        }
    }

    /// Returns what a sealed challenge is bound to.
    fn context(self) -> Vec<u8> {
        let (name, session_id) = match self {
            Self::Registration(_) => (b"registration ".as_slice(), None),
            Self::Login => (b"login ".as_slice(), None),
            Self::SecondFactor(_) => (b"second factor ".as_slice(), None),
            Self::Reauthentication { session_id, .. } => (b"reauthentication ".as_slice(), Some(session_id)),
        };
        let user_id = self.user_id().unwrap_or(Uuid::nil());
        [name, user_id.as_bytes(), session_id.as_ref().map_or(&[][..], |id| id.as_bytes())].concat()
    }
}

/// A challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasskeyChallenge {
    /// Identifies the challenge, which can be used once.
    pub id: Uuid,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl PasskeyChallenge {
    /// Creates a challenge.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { id: Uuid::from_bytes(random::bytes()), expires_at: now + LIFETIME }
    }

    /// Returns the challenge as it is signed, in base64url.
    #[must_use]
    pub fn seal(&self, keys: &RefreshKeys, challenge_use: Use) -> String {
        let content = [self.id.as_bytes().as_slice(), &self.expires_at.as_micros().to_be_bytes()].concat();
        sealed::seal(keys.first(), Purpose::PasskeyChallenge, &challenge_use.context(), &content)
    }

    /// Returns the challenge in a text, if it is for this use and has not expired.
    #[must_use]
    pub fn open(keys: &RefreshKeys, challenge_use: Use, text: &str, now: Timestamp) -> Option<Self> {
        let content = sealed::open(keys, Purpose::PasskeyChallenge, &challenge_use.context(), text)?;
        let (id, expires_at) = content.split_first_chunk()?;
        let expires_at = Timestamp::from_micros(i64::from_be_bytes(expires_at.try_into().ok()?));
        (now < expires_at).then_some(Self { id: Uuid::from_bytes(*id), expires_at })
    }
}

#[cfg(test)]
mod tests {
    use service_kit::{clock::Clock, ops::secret_file::Key};

    use super::*;
    use crate::model::refresh_token::RefreshKey;

    #[test]
    fn challenge_is_valid_for_one_use_until_it_expires() {
        let keys = RefreshKeys::new(vec![RefreshKey::new(&Key::random())]);
        let (now, ann, ben) = (Clock::system().now(), Uuid::from_u128(1), Uuid::from_u128(2));
        let uses = [
            Use::Registration(ann),
            Use::Registration(ben),
            Use::Login,
            Use::SecondFactor(ann),
            Use::SecondFactor(ben),
            Use::Reauthentication { user_id: ann, session_id: ann },
            Use::Reauthentication { user_id: ann, session_id: ben },
            Use::Reauthentication { user_id: ben, session_id: ann },
        ];
        for challenge_use in uses {
            let challenge = PasskeyChallenge::new(now);
            let text = challenge.seal(&keys, challenge_use);
            let last = challenge.expires_at - Duration::from_micros(1);
            assert_eq!(PasskeyChallenge::open(&keys, challenge_use, &text, last), Some(challenge));
            assert_eq!(PasskeyChallenge::open(&keys, challenge_use, &text, challenge.expires_at), None);
            for other in uses.into_iter().filter(|other| *other != challenge_use) {
                assert_eq!(PasskeyChallenge::open(&keys, other, &text, now), None, "{other:?}");
            }
        }
    }
}
