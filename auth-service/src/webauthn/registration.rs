//! Verifies the registration of a passkey (W3C WebAuthn, section 7.1).

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use super::{
    authenticator_data::AuthenticatorData,
    cbor::{self, Map, Value},
    client_data::Ceremony,
    cose::{Algorithm, PublicKey},
    rejection::Rejection,
    relying_party::RelyingParty,
    response::Registration,
};

const PART: &str = "attestation object";

/// A new credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// The id, which the authenticator has chosen.
    pub id: Vec<u8>,
    /// The public key, in the form of COSE.
    pub public_key: Vec<u8>,
    /// The algorithm of the key.
    pub algorithm: Algorithm,
    /// The model of the authenticator; all zeros if it does not reveal that.
    pub aaguid: Uuid,
    /// The number of signatures so far; zero if the authenticator does not count them.
    pub sign_count: u32,
    /// Whether the authenticator has verified the user.
    pub user_verified: bool,
    /// Whether the credential may be copied to other devices of the user.
    pub backup_eligible: bool,
    /// Whether it has been copied.
    pub backed_up: bool,
}

/// Verifies a response to the registration with this challenge.
///
/// # Errors
/// If the response is malformed, or belongs to another challenge or site.
pub fn verify(
    response: &Registration,
    challenge: &str,
    relying_party: &RelyingParty,
) -> Result<NewCredential, Rejection> {
    response.client_data()?.check(Ceremony::Registration, challenge, relying_party)?;
    let object = cbor::map(response.attestation_object(), PART)?;
    let (Some(Value::Text(format)), Some(Value::Map(statement)), Some(Value::Bytes(signed))) =
        (object.get(&Value::Text("fmt")), object.get(&Value::Text("attStmt")), object.get(&Value::Text("authData")))
    else {
        return Err(Rejection::Malformed(PART));
    };
    let data = AuthenticatorData::parse(signed)?;
    data.check(relying_party, false)?;
    let credential = data.credential.as_ref().ok_or(Rejection::Malformed("authenticator data"))?;
    if credential.id != response.id() {
        return Err(Rejection::WrongCredential);
    }
    let key = PublicKey::parse(credential.public_key)?;
    let client_data_hash = digest(&SHA256, response.client_data_json());
    check_attestation(format, statement, &key, &[*signed, client_data_hash.as_ref()].concat())?;
    Ok(NewCredential {
        id: credential.id.to_vec(),
        public_key: credential.public_key.to_vec(),
        algorithm: key.algorithm,
        aaguid: credential.aaguid,
        sign_count: data.sign_count,
        user_verified: data.is_user_verified(),
        backup_eligible: data.is_backup_eligible(),
        backed_up: data.is_backed_up(),
    })
}

/// Accepts no attestation, and self attestation, whose signature is by the new key itself (section 8.2).
fn check_attestation(format: &str, statement: &Map<'_>, key: &PublicKey, signed_data: &[u8]) -> Result<(), Rejection> {
    let get = |name| statement.get(&Value::Text(name));
    match (format, get("alg"), get("sig"), get("x5c")) {
        ("none", ..) if statement.entries().is_empty() => Ok(()),
        ("packed", Some(Value::Integer(algorithm)), Some(Value::Bytes(signature)), None)
            if *algorithm == key.algorithm.number() =>
        {
            key.verify(signed_data, signature)
        }
        _ => Err(Rejection::UnsupportedAttestation),
    }
}
