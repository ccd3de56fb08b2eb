//! The data that an authenticator signs (W3C WebAuthn, section 6.1).

use uuid::Uuid;

use super::{cbor, rejection::Rejection, relying_party::RelyingParty};

const PART: &str = "authenticator data";

/// Maximum length of the id of a credential (section 7.1, step 25).
const MAX_CREDENTIAL_ID_BYTES: usize = 1023;

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// The parsed data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatorData<'a> {
    rp_id_hash: &'a [u8; 32],
    flags: u8,
    /// The number of signatures; zero if the authenticator does not count them.
    pub sign_count: u32,
    /// The new credential, in a registration.
    pub credential: Option<AttestedCredential<'a>>,
}

/// A new credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedCredential<'a> {
    /// The model of the authenticator; all zeros if it does not reveal that.
    pub aaguid: Uuid,
    /// The id of the credential.
    pub id: &'a [u8],
    /// The public key, in the form of COSE.
    pub public_key: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    /// Parses the data.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(data: &'a [u8]) -> Result<Self, Rejection> {
        let (parsed, rest) = Self::split(data).ok_or(Rejection::Malformed(PART))?;
        let (credential, rest) = if parsed.has(HAS_CREDENTIAL) {
            let (credential, rest) = AttestedCredential::split(rest)?;
            (Some(credential), rest)
        } else {
            (None, rest)
        };
        let rest = if parsed.has(HAS_EXTENSIONS) { cbor::map_prefix(rest, PART)?.1 } else { rest };
        // Only credentials that can be backed up can have been (section 6.1.3).
        let is_consistent = parsed.is_backup_eligible() || !parsed.is_backed_up();
        if rest.is_empty() && is_consistent {
            Ok(Self { credential, ..parsed })
        } else {
            Err(Rejection::Malformed(PART))
        }
    }

    fn split(data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (rp_id_hash, rest) = data.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (sign_count, rest) = rest.split_first_chunk()?;
        let sign_count = u32::from_be_bytes(*sign_count);
        Some((Self { rp_id_hash, flags: *flags, sign_count, credential: None }, rest))
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Reports whether the authenticator has verified the user.
    #[must_use]
    pub fn is_user_verified(&self) -> bool {
        self.has(USER_VERIFIED)
    }

    /// Reports whether the credential may be copied to other devices of the user.
    #[must_use]
    pub fn is_backup_eligible(&self) -> bool {
        self.has(BACKUP_ELIGIBLE)
    }

    /// Reports whether the credential has been copied.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.has(BACKED_UP)
    }

    /// Checks the relying party, and that the user was present.
    ///
    /// # Errors
    /// If one of them is not as expected.
    pub fn check(&self, relying_party: &RelyingParty, requires_verification: bool) -> Result<(), Rejection> {
        if self.rp_id_hash.as_slice() != relying_party.id_hash() {
            Err(Rejection::WrongRelyingParty)
        } else if !self.has(USER_PRESENT) {
            Err(Rejection::UserNotPresent)
        } else if requires_verification && !self.is_user_verified() {
            Err(Rejection::UserNotVerified)
        } else {
            Ok(())
        }
    }
}

impl<'a> AttestedCredential<'a> {
    fn split(data: &'a [u8]) -> Result<(Self, &'a [u8]), Rejection> {
        let (aaguid, id, rest) = Self::split_id(data).ok_or(Rejection::Malformed(PART))?;
        let (_, after_key) = cbor::map_prefix(rest, "public key")?;
        let public_key = &rest[..rest.len() - after_key.len()];
        Ok((Self { aaguid, id, public_key }, after_key))
    }

    fn split_id(data: &'a [u8]) -> Option<(Uuid, &'a [u8], &'a [u8])> {
        let (aaguid, rest) = data.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let is_valid = !id.is_empty() && id.len() <= MAX_CREDENTIAL_ID_BYTES;
        is_valid.then_some((Uuid::from_bytes(*aaguid), id, rest))
    }
}
