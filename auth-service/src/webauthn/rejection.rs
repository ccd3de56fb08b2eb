//! Why the response of an authenticator is refused.

use std::fmt;

/// Why the response of an authenticator is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The response, or a part of it, is not encoded as specified. Contains the name of the part.
    Malformed(&'static str),
    /// The response is for a registration instead of a login, or the reverse.
    WrongType,
    /// The response is for another challenge.
    WrongChallenge,
    /// The response comes from a page of another origin.
    WrongOrigin,
    /// The response comes from a page that is embedded in a page of another origin.
    CrossOrigin,
    /// The response is for another relying party.
    WrongRelyingParty,
    /// The user has not confirmed the operation.
    UserNotPresent,
    /// The authenticator has not verified the user, as with a PIN or a fingerprint.
    UserNotVerified,
    /// The algorithm or the parameters of the key are not supported.
    UnsupportedKey,
    /// The format of the attestation is not supported.
    UnsupportedAttestation,
    /// The response is from another credential, or for another user.
    WrongCredential,
    /// The signature does not belong to the key and the data.
    WrongSignature,
    /// The signature counter is not larger than before, so there is probably a copy of the passkey.
    CounterWentBack,
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self {
            Self::Malformed(part) => return write!(formatter, "the {part} is not encoded correctly"),
            Self::WrongType => "the response belongs to another operation",
            Self::WrongChallenge => "the challenge was already used, has expired, or is not valid",
            Self::WrongOrigin => "the response comes from another origin",
            Self::CrossOrigin => "the page is embedded in a page of another origin",
            Self::WrongRelyingParty => "the response is for another site",
            Self::UserNotPresent => "the user has not confirmed the operation",
            Self::UserNotVerified => "the authenticator has not verified the user",
            Self::UnsupportedKey => "the key must be ES256, EdDSA (Ed25519), or RS256 with 2048 to 4096 bits",
            Self::UnsupportedAttestation => "the attestation must be `none`, or a self attestation",
            Self::WrongCredential => "the passkey is not registered for this account",
            Self::WrongSignature => "the signature is wrong",
            Self::CounterWentBack => "the signature counter went back, so the passkey may have been copied",
        };
        formatter.write_str(message)
    }
}
