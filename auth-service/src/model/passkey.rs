//! Passkeys.

use uuid::Uuid;

use super::passkey_challenge::PasskeyChallenge;
use crate::webauthn::assertion::Verification;

/// A registered passkey.
#[derive(Clone, Debug)]
pub struct Passkey {
    /// The primary key.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// The handle of the account, which the authenticator stores.
    pub user_handle: Vec<u8>,
    /// The public key, in the form of COSE.
    pub public_key: Vec<u8>,
    /// The number of signatures at the last use.
    pub sign_count: u32,
}

/// The use of a passkey. It is possible once, because a challenge can be used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyUse {
    /// The passkey.
    pub passkey_id: Uuid,
    /// The challenge that it has signed.
    pub challenge: PasskeyChallenge,
    /// What the signature proves.
    pub verified: Verification,
}
