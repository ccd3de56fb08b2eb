//! Forged and malformed tokens (RFC 8725). All are refused with the same error, which does not say what is wrong.

use std::{fs, os::unix::fs::PermissionsExt, sync::LazyLock};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{
    auth::{keys::KeySet, token},
    clock::Timestamp,
    ops::config::TokenArgs,
    status::ApiError,
    testing,
};
use tonic::{Code, Status};

mod claims;
mod confusion;
mod header;
mod shape;
mod vectors;

const NOW: i64 = 1_800_000_000;

/// The secret of the HS256 key `shared`.
const SECRET: &[u8; 32] = b"thirty-two bytes to sign a token";

/// The private half of the EdDSA key `pair`.
const SEED: &[u8; 32] = b"and thirty-two more for Ed25519.";

/// Verifies a token at the time [`NOW`] with both keys, and returns the status that a server would return.
fn verify(token: &str) -> Result<(), Status> {
    static KEYS: LazyLock<KeySet> = LazyLock::new(keys);
    let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    let result = token::verify(&KEYS, &token_args, token, Timestamp::from_seconds(NOW));
    let result = result.map_err(|error| Status::from(ApiError::from(error)));
    vectors::record(token, &result);
    result.map(drop)
}

/// Returns the reason for which a token is refused.
#[track_caller]
fn refusal_reason(token: &str) -> String {
    let Err(status) = verify(token) else { panic!("accepted: {token}") };
    testing::refusal(&status).1
}

fn keys() -> KeySet {
    let folder = testing::folder();
    let file = folder.path().join("keys.json");
    let shared = json!({"kty": "oct", "kid": "shared", "k": BASE64.encode(SECRET)});
    let (x, d) = (BASE64.encode(public_key()), BASE64.encode(SEED));
    let pair = json!({"kty": "OKP", "crv": "Ed25519", "kid": "pair", "x": x, "d": d});
    fs::write(&file, json!({"keys": [shared, pair]}).to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    KeySet::read(&file, Timestamp::from_seconds(NOW)).expect("a key set")
}

fn public_key() -> Vec<u8> {
    ed25519(SEED).public_key().as_ref().to_vec()
}

fn ed25519(seed: &[u8]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed")
}

#[track_caller]
fn assert_accepted(token: &str) {
    assert!(verify(token).is_ok(), "{token}");
}

/// Asserts that a token is refused with the same status as all others.
#[track_caller]
fn assert_refused(token: &str) {
    static EXPECTED: LazyLock<Status> = LazyLock::new(|| {
        let status = verify("").expect_err("an empty token is refused");
        assert_eq!(testing::refusal(&status), (Code::Unauthenticated, "TOKEN_INVALID".to_owned(), vec![]));
        status
    });
    let Err(status) = verify(token) else { panic!("accepted: {token}") };
    assert_eq!(status.code(), EXPECTED.code(), "{token}");
    assert_eq!(status.message(), EXPECTED.message(), "{token}");
    assert_eq!(status.details(), EXPECTED.details(), "{token}");
    assert!(status.metadata().is_empty(), "{token}");
}

/// Returns a valid header for the key `shared`.
fn header() -> Value {
    json!({"alg": "HS256", "kid": "shared", "typ": "at+jwt"})
}

/// Returns a valid header for the key `pair`.
fn pair_header() -> Value {
    json!({"alg": "EdDSA", "kid": "pair", "typ": "at+jwt"})
}

/// Returns valid claims.
fn claims() -> Value {
    json!({
        "iss": "taskey", "aud": "taskey", "iat": NOW - 10, "exp": NOW + 290, "roles": [],
        "sub": "01890a5d-ac96-774b-bcce-b302099a8057", "sid": "01890a5d-ac96-774b-bcce-b302099a8058",
        "jti": "01890a5d-ac96-774b-bcce-b302099a8059",
    })
}

/// Returns the object with one member replaced.
fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().expect("an object").remove(member);
    object
}

/// Encodes any header and claims as the message to sign.
#[expect(clippy::needless_pass_by_value, reason = "the calls are easier to read without borrows")]
fn message(header: impl ToString, claims: impl ToString) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

/// Signs a message with the key `shared`, which is valid for `alg: HS256`.
fn signed(message: &str) -> String {
    signed_by(hmac::HMAC_SHA256, SECRET, message)
}

fn signed_by(algorithm: hmac::Algorithm, secret: &[u8], message: &str) -> String {
    with_signature(message, hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes()).as_ref())
}

/// Signs a message with the key `pair`, which is valid for `alg: EdDSA`.
fn pair_signed(message: &str) -> String {
    with_signature(message, ed25519(SEED).sign(message.as_bytes()).as_ref())
}

fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", BASE64.encode(signature))
}

/// Returns a valid token.
fn valid_token() -> String {
    signed(&message(header(), claims()))
}

/// Without this, the refusals in this module would prove nothing.
#[test]
fn valid_tokens_are_accepted() {
    assert_accepted(&valid_token());
    assert_accepted(&pair_signed(&message(pair_header(), claims())));
}
