//! The whole zoo of tokens that are not ours (RFC 8725). Whatever is wrong with one, its bearer learns the same.

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

const NOW: i64 = 1_800_000_000;

/// The key `shared`: HS256.
const SECRET: &[u8; 32] = b"thirty-two bytes to sign a token";

/// The private half of the key `pair`: EdDSA.
const SEED: &[u8; 32] = b"and thirty-two more for Ed25519.";

/// Says of a token what a server says of it at the time [`NOW`], when it knows both keys.
fn verdict(token: &str) -> Result<(), Status> {
    static KEYS: LazyLock<KeySet> = LazyLock::new(keys);
    let names = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    let verdict = token::verify(&KEYS, &names, token, Timestamp::from_seconds(NOW));
    verdict.map(|_| ()).map_err(|fault| ApiError::from(fault).into())
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
fn accepted(token: &str) {
    assert!(verdict(token).is_ok(), "{token}");
}

/// Asserts that a token is refused as every other one is.
#[track_caller]
fn refused(token: &str) {
    static REFUSAL: LazyLock<Status> = LazyLock::new(|| {
        let status = verdict("").expect_err("it is no token");
        assert_eq!(testing::refusal(&status), (Code::Unauthenticated, "TOKEN_INVALID".to_owned(), vec![]));
        status
    });
    let Err(status) = verdict(token) else { panic!("accepted: {token}") };
    assert_eq!(status.code(), REFUSAL.code(), "{token}");
    assert_eq!(status.message(), REFUSAL.message(), "{token}");
    assert_eq!(status.details(), REFUSAL.details(), "{token}");
    assert!(status.metadata().is_empty(), "{token}");
}

/// The header of a good token.
fn header() -> Value {
    json!({"alg": "HS256", "kid": "shared", "typ": "at+jwt"})
}

/// The header of a good token by the other key.
fn pair_header() -> Value {
    json!({"alg": "EdDSA", "kid": "pair", "typ": "at+jwt"})
}

/// What a good token claims.
fn claims() -> Value {
    json!({
        "iss": "taskey", "aud": "taskey", "iat": NOW - 10, "exp": NOW + 290, "roles": [],
        "sub": "01890a5d-ac96-774b-bcce-b302099a8057", "sid": "01890a5d-ac96-774b-bcce-b302099a8058",
        "jti": "01890a5d-ac96-774b-bcce-b302099a8059",
    })
}

/// A good object, but for one member.
fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().expect("an object").remove(member);
    object
}

/// What is signed: header and claims, whatever they are.
#[expect(clippy::needless_pass_by_value, reason = "the calls are easier to read without borrows")]
fn message(header: impl ToString, claims: impl ToString) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

/// The message with a signature by the shared key, which is right for `alg: HS256`.
fn signed(message: &str) -> String {
    signed_by(hmac::HMAC_SHA256, SECRET, message)
}

fn signed_by(algorithm: hmac::Algorithm, secret: &[u8], message: &str) -> String {
    with_signature(message, hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes()).as_ref())
}

/// The message with a signature by the pair of keys, which is right for `alg: EdDSA`.
fn pair_signed(message: &str) -> String {
    with_signature(message, ed25519(SEED).sign(message.as_bytes()).as_ref())
}

fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", BASE64.encode(signature))
}

/// A good token.
fn good() -> String {
    signed(&message(header(), claims()))
}

#[test]
fn good_tokens_are_accepted_or_no_refusal_here_would_mean_anything() {
    accepted(&good());
    accepted(&pair_signed(&message(pair_header(), claims())));
}
