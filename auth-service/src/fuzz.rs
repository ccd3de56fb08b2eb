//! Properties that hold for any input. The target in `fuzz/` searches for a counterexample; the test runs its corpus.

use std::sync::LazyLock;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::json;
use service_kit::ops::secret_file;
use uuid::Uuid;

use crate::{
    model::refresh_token::{RefreshKey, RefreshToken},
    webauthn::{
        assertion::{self, Expected, StoredCredential},
        authenticator_data::AuthenticatorData,
        cbor::{self, Value},
        cose::PublicKey,
        registration,
        relying_party::RelyingParty,
        response::{Assertion, Registration},
    },
};

const CHALLENGE: &str = "LdAL134CIs7YgmZUganB2fkHMJ0W4F7QB6HqY5KEd6k";
const USER_HANDLE: &[u8] = b"user handle";

static SITE: LazyLock<RelyingParty> = LazyLock::new(|| {
    let url = "https://tasks.example.org".parse().expect("a URL");
    RelyingParty::new(&url).expect("a site with a domain name")
});

static KEY_PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(b"thirty-two bytes to sign a login").expect("a seed"));

/// Checks that a valid refresh token is the only encoding of its content, and that only its own key accepts it. Parses
/// the input as a token, and also issues a token from the first 24 bytes.
pub fn refresh_token(data: &[u8]) {
    let [key, other_key] = [7, 8].map(|byte| RefreshKey::new(&secret_file::Key::new([byte; 32])));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(token) = key.open(text)
    {
        assert_eq!(key.issue(token), text);
        assert_eq!(other_key.open(text), None);
    }
    if let Some((session_id, rest)) = data.split_first_chunk()
        && let Some((generation, rest)) = rest.split_first_chunk()
    {
        let generation = i64::from_be_bytes(*generation);
        let token = RefreshToken { session_id: Uuid::from_bytes(*session_id), generation };
        let text = key.issue(token);
        assert_eq!(key.open(&text), Some(token));
        assert_eq!(other_key.open(&text), None);
        let extended = text + &String::from_utf8_lossy(rest);
        assert_eq!(key.open(&extended).is_some(), rest.is_empty());
    }
}

/// Checks that a parsed map has no other encoding than the input, apart from the order of keys.
pub fn cbor(data: &[u8]) {
    if let Ok((map, rest)) = cbor::map_prefix(data, "map") {
        let mut encoded = Vec::new();
        encode(&Value::Map(map), &mut encoded);
        assert_eq!([&encoded, rest].concat(), data);
    }
}

fn encode(value: &Value<'_>, output: &mut Vec<u8>) {
    match value {
        Value::Integer(integer @ 0..) => encode_head(0, integer.unsigned_abs(), output),
        Value::Integer(integer) => encode_head(1, integer.unsigned_abs() - 1, output),
        Value::Bytes(bytes) => {
            encode_head(2, bytes.len() as u64, output);
            output.extend_from_slice(bytes);
        }
        Value::Text(text) => {
            encode_head(3, text.len() as u64, output);
            output.extend_from_slice(text.as_bytes());
        }
        Value::Array(values) => {
            encode_head(4, values.len() as u64, output);
            for value in values {
                encode(value, output);
            }
        }
        Value::Map(map) => {
            encode_head(5, map.entries().len() as u64, output);
            for (key, value) in map.entries() {
                encode(key, output);
                encode(value, output);
            }
        }
        Value::Bool(value) => output.push(0xf4 + u8::from(*value)),
        Value::Null => output.push(0xf6),
    }
}

/// Encodes the initial byte of a data item and its argument.
fn encode_head(major: u8, argument: u64, output: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let (info, length) = match argument {
        0..24 => return output.push(major << 5 | bytes[7]),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    output.push(major << 5 | info);
    output.extend_from_slice(&bytes[8 - length..]);
}

/// Uses the input as a response of a passkey, and as the attestation object and the signed data of a response that is
/// otherwise valid. Checks that a response is accepted only if it is for the site and the user was present.
pub fn passkey(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check_registration(text);
        check_assertion(text);
    }
    check_attestation_object(data);
    check_authenticator_data(data);
}

/// Uses the input in a registration. Reports whether it is accepted.
fn check_attestation_object(data: &[u8]) -> bool {
    let Some(id) = credential_id(data) else { return false };
    let (id, client_data) = (BASE64.encode(id), client_data("webauthn.create"));
    let response = json!({"clientDataJSON": BASE64.encode(client_data), "attestationObject": BASE64.encode(data)});
    check_registration(&json!({"id": id, "rawId": id, "type": "public-key", "response": response}).to_string())
}

/// Signs the input, and uses it in a login. Reports whether it is accepted.
fn check_authenticator_data(data: &[u8]) -> bool {
    let client_data = client_data("webauthn.get");
    let signed = [data, digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
    let response = json!({
        "clientDataJSON": BASE64.encode(client_data),
        "authenticatorData": BASE64.encode(data),
        "signature": BASE64.encode(KEY_PAIR.sign(&signed)),
        "userHandle": BASE64.encode(USER_HANDLE),
    });
    check_assertion(&json!({"id": "aWQ", "rawId": "aWQ", "type": "public-key", "response": response}).to_string())
}

fn client_data(ceremony: &str) -> String {
    json!({"type": ceremony, "challenge": CHALLENGE, "origin": SITE.origin()}).to_string()
}

/// Returns the id of the new credential in an attestation object.
fn credential_id(attestation_object: &[u8]) -> Option<&[u8]> {
    let object = cbor::map(attestation_object, "attestation object").ok()?;
    match object.get(&Value::Text("authData")) {
        Some(Value::Bytes(data)) => AuthenticatorData::parse(data).ok()?.credential.map(|credential| credential.id),
        _ => None,
    }
}

/// Reports whether a registration is accepted.
fn check_registration(json: &str) -> bool {
    let Ok(response) = Registration::parse(json) else { return false };
    let Ok(credential) = registration::verify(&response, CHALLENGE, &SITE) else { return false };
    let object = cbor::map(response.attestation_object(), "attestation object").expect("it was accepted");
    let Some(Value::Bytes(data)) = object.get(&Value::Text("authData")) else { panic!("no authenticator data") };
    check_data(data);
    let key = PublicKey::parse(&credential.public_key).expect("it was accepted");
    assert_eq!((key.algorithm, credential.id.as_slice()), (credential.algorithm, response.id()));
    true
}

/// Reports whether a login is accepted, at least as second factor.
fn check_assertion(json: &str) -> bool {
    let Ok(response) = Assertion::parse(json) else { return false };
    let public_key = [b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20", KEY_PAIR.public_key().as_ref()].concat();
    let stored = StoredCredential { id: b"id", public_key: &public_key, user_handle: USER_HANDLE, sign_count: 0 };
    let verify = |is_passwordless| {
        assertion::verify(&response, Expected { relying_party: &SITE, challenge: CHALLENGE, is_passwordless }, stored)
    };
    let (as_login, as_second_factor) = (verify(true), verify(false));
    if let Ok(verified) = as_second_factor {
        check_data(response.authenticator_data());
        assert_eq!(verified.user_verified, response.authenticator_data()[32] & 4 != 0);
        assert_eq!(as_login.is_ok(), verified.user_verified && response.user_handle() == Some(USER_HANDLE));
    } else {
        assert!(as_login.is_err());
    }
    as_second_factor.is_ok()
}

/// Checks the site and the presence of the user in accepted authenticator data.
fn check_data(data: &[u8]) {
    assert_eq!((&data[..32], data[32] & 1), (SITE.id_hash(), 1));
}

#[cfg(test)]
mod tests {
    use service_kit::testing::run_corpus;

    #[test]
    fn refresh_token_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/refresh_token"), super::refresh_token);
    }

    #[test]
    fn cbor_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/cbor"), super::cbor);
    }

    #[test]
    fn passkey_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/passkey"), super::passkey);
    }

    #[test]
    fn passkey_corpus_contains_valid_responses() {
        assert!(super::check_registration(include_str!("../fuzz/corpus/passkey/registration")));
        assert!(super::check_attestation_object(include_bytes!("../fuzz/corpus/passkey/attestation_object")));
        assert!(super::check_authenticator_data(include_bytes!("../fuzz/corpus/passkey/authenticator_data")));
    }
}
