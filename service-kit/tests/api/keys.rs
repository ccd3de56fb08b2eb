//! Validation and rotation of keys.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::CompressedEdwardsY,
};
use serde_json::{Value, json};
use service_kit::{
    auth::{
        claims::{self, AccessClaims},
        keys::KeySet,
        rotation::{self, NewKey},
        token::{self, TokenError},
    },
    clock::{Clock, Timestamp},
    ops::config::TokenArgs,
    testing,
};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn parse(keys: &Value) -> Result<KeySet, String> {
    KeySet::parse(&json!({ "keys": keys }).to_string(), NOW).map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn assert_refused(key: &Value, reason: &str) {
    let error = parse(&json!([key])).expect_err("the key is refused");
    assert!(error.contains(reason), "{error}");
}

fn shared_key(kid: &str) -> Value {
    json!({"kty": "oct", "kid": kid, "k": BASE64.encode([7; 32])})
}

fn public_key(x: impl AsRef<[u8]>) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": BASE64.encode(x)})
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

/// Creates a file with one new key. Dropping the folder deletes it.
fn key_file(kind: NewKey) -> (tempfile::TempDir, PathBuf) {
    let folder = testing::folder();
    let file = folder.path().join("keys.json");
    rotation::generate(kind, &file).expect("a key file");
    (folder, file)
}

fn read_keys(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the file exists");
    let set: Value = serde_json::from_str(&text).expect("JSON");
    set["keys"].as_array().expect("keys").clone()
}

fn kids(file: &Path) -> Vec<String> {
    read_keys(file).iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

fn sign(keys: &KeySet, now: Timestamp) -> String {
    let id = Clock::system().new_id();
    let expires_at = now + claims::MAX_LIFETIME;
    let claims = AccessClaims {
        id,
        user_id: id,
        session_id: id,
        roles: Vec::new(),
        scopes: None,
        authentication: None,
        issued_at: now,
        expires_at,
        actors: Vec::new(),
    };
    token::sign(keys, &token_args(), &claims).expect("the key signs")
}

#[test]
fn public_keys_of_small_or_mixed_order_are_refused() {
    for point in EIGHT_TORSION {
        assert_refused(&public_key(point.compress().as_bytes()), "not a valid Ed25519 public key");
        let mixed = point + ED25519_BASEPOINT_POINT;
        assert_eq!(parse(&json!([public_key(mixed.compress().as_bytes())])).is_ok(), mixed.is_torsion_free());
    }
}

#[test]
fn non_canonical_or_off_curve_points_are_refused() {
    let near_prime = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    };
    // Non-canonical encodings: y = p, y = p + 1, and the identity with the sign bit of x = 0 set.
    for bytes in
        [near_prime(0xed), near_prime(0xee), [[1].as_slice(), &[0; 30], &[0x80]].concat().try_into().expect("32 bytes")]
    {
        assert_refused(&public_key(bytes), "not a valid Ed25519 public key");
    }
    let off_curve = (2..=255).map(|low| [low; 32]).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none());
    assert_refused(&public_key(off_curve.expect("half of them are")), "not a valid Ed25519 public key");
    assert_refused(&public_key([7; 31]), "not a valid Ed25519 public key");
    assert_refused(&public_key([7; 33]), "not a valid Ed25519 public key");
    assert_refused(&public_key(""), "not a valid Ed25519 public key");
}

#[test]
fn malformed_keys_are_refused_and_not_quoted_in_the_error() {
    let valid = shared_key("a");
    for (member, value, reason) in [
        ("kty", json!("RSA"), "kty must be"),
        ("kid", json!(""), "kid must have"),
        ("kid", json!("x".repeat(129)), "kid must have"),
        ("use", json!("enc"), "use must be"),
        ("alg", json!("HS512"), "alg must be"),
        ("alg", json!("none"), "alg must be"),
        ("k", json!(BASE64.encode([7; 31])), "at least 32 bytes"),
        ("k", json!("AAAA+/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "k is not base64url"),
    ] {
        assert_refused(&with(valid.clone(), member, value), reason);
    }
    let x = ED25519_BASEPOINT_POINT.compress();
    for (member, value, reason) in [
        ("crv", json!("Ed448"), "crv must be"),
        ("crv", json!("X25519"), "crv must be"),
        ("alg", json!("HS256"), "alg must be"),
        ("x", json!("="), "x is not base64url"),
        ("d", json!(BASE64.encode([7; 31])), "d must have 32 bytes"),
        ("d", json!(BASE64.encode([7; 32])), "x is not the public key of d"),
    ] {
        assert_refused(&with(public_key(x.as_bytes()), member, value), reason);
    }
    for text in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[{"kty":"oct","kid":"a","k":5}]}"#, "hunter2"] {
        let error = format!("{:#}", KeySet::parse(text, NOW).expect_err("the text is refused"));
        assert!(error.contains("not a JWK Set") && !error.contains("hunter2"), "{error}");
    }
    assert!(parse(&json!([])).expect_err("refused").contains("no key"));
    assert!(parse(&json!([shared_key("a"), shared_key("a")])).expect_err("refused").contains("same kid"));
}

#[test]
fn public_key_verifies_but_does_not_sign() {
    let (_folder, file) = key_file(NewKey::EdDsa);
    let pair = KeySet::read(&file, NOW).expect("a key set");
    let token = sign(&pair, NOW);
    let public_keys = KeySet::parse(&pair.public_json().expect("JSON"), NOW).expect("a key set");
    assert_eq!(token::verify(&public_keys, &token_args(), &token, NOW).expect("valid").issued_at, NOW);
    let received_keys = KeySet::from_public(&pair.public()).expect("a key set");
    assert!(received_keys == public_keys);
    // The second verification uses the cache, which must not accept another token with the same signature.
    token::verify(&received_keys, &token_args(), &token, NOW).expect("valid");
    token::verify(&received_keys, &token_args(), &token, NOW).expect("valid");
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let other = sign(&pair, NOW);
    let (_, signature) = other.rsplit_once('.').expect("three parts");
    let mixed = format!("{message}.{signature}");
    assert_eq!(token::verify(&received_keys, &token_args(), &mixed, NOW), Err(TokenError::Invalid));
    let claims = token::verify(&received_keys, &token_args(), &token, NOW).expect("valid");
    token::sign(&received_keys, &token_args(), &claims).expect_err("only the private half signs");
}

#[test]
fn expired_key_is_ignored() {
    let expiring_in = |seconds: i64| with(shared_key("b"), "exp", json!(NOW.as_seconds() + seconds));
    let both = parse(&json!([shared_key("a"), expiring_in(1)])).expect("a key set");
    let one = parse(&json!([shared_key("a"), expiring_in(0)])).expect("a key set");
    assert_eq!((format!("{both:?}"), format!("{one:?}")), (r#"["a", "b"]"#.to_owned(), r#"["a"]"#.to_owned()));
    assert!(parse(&json!([expiring_in(0)])).expect_err("refused").contains("no key"));
}

#[test]
fn rotation_keeps_the_old_key_until_its_last_token_has_expired() {
    for kind in [NewKey::Hs256, NewKey::EdDsa] {
        let (_folder, file) = key_file(kind);
        let old = KeySet::read(&file, NOW).expect("a key set");
        let (clock, manual_clock) = testing::clock();
        rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
        assert_eq!(fs::metadata(&file).expect("the file exists").permissions().mode() & 0o777, 0o600);
        let keys = KeySet::read(&file, clock.now()).expect("a key set");
        let (new_kid, old_kid) = (kids(&file)[0].clone(), kids(&file)[1].clone());
        assert_eq!(format!("{old:?}"), format!("{:?}", [&old_kid]));
        assert_eq!(read_keys(&file)[0]["alg"], read_keys(&file)[1]["alg"]);

        // A replica that has not read the new file yet signs with the old key for up to 5 s.
        manual_clock.advance(Duration::from_secs(5));
        let last_token = sign(&old, clock.now());
        token::verify(&keys, &token_args(), &last_token, clock.now()).expect("valid");
        manual_clock.advance(claims::MAX_LIFETIME + claims::LEEWAY.saturating_sub(Duration::from_secs(1)));
        let keys = KeySet::read(&file, clock.now()).expect("a key set");
        token::verify(&keys, &token_args(), &last_token, clock.now()).expect("valid until it expires");
        manual_clock.advance(Duration::from_secs(10));
        let keys = KeySet::read(&file, clock.now()).expect("a key set");
        assert_eq!(token::verify(&keys, &token_args(), &last_token, clock.now()), Err(TokenError::KeyUnknown));
        assert_eq!(format!("{keys:?}"), format!("{:?}", [&new_kid]));

        rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
        assert_eq!(kids(&file)[1..], [new_kid], "expired keys are removed");
    }
}

#[test]
fn unused_key_of_an_interrupted_rotation_is_removed() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let old = read_keys(&file).remove(0);
    let waiting = with(shared_key("waiting"), "taskey:waiting", json!(true));
    let other = with(shared_key("other"), "nbf", json!(NOW.as_seconds()));
    let set = json!({"keys": [old, waiting, other], "comment": "ours"}).to_string();
    fs::write(&file, set).expect("written");
    let (clock, _manual_clock) = testing::clock();
    rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
    let kids = kids(&file);
    assert_eq!(kids[1..], [old["kid"].as_str().expect("a kid"), "other"]);
    assert!(!kids.contains(&"waiting".to_owned()), "the unused key may be years old");
    let text = fs::read_to_string(&file).expect("the file exists");
    assert!(!text.contains("taskey:waiting") && text.contains(r#""comment": "ours""#), "unknown members are kept");
    assert_eq!(read_keys(&file)[2]["nbf"], NOW.as_seconds());
}

#[test]
fn old_key_expires_together_with_its_last_token() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let (clock, _manual_clock) = testing::clock();
    let now = clock.now().as_seconds();
    let old = with(read_keys(&file).remove(0), "exp", json!(now + 1_000_000));
    let soon = with(shared_key("soon"), "exp", json!(now + 10));
    fs::write(&file, json!({"keys": [old, soon]}).to_string()).expect("written");
    let publish_for = Duration::from_millis(1);
    rotation::rotate(&file, None, publish_for, &clock).expect("rotated");
    let lifetimes: Vec<_> =
        read_keys(&file)[1..].iter().map(|key| key["exp"].as_i64().expect("an expiry time") - now).collect();
    assert_eq!(lifetimes, [5 + 15 * 60 + 10 + 1, 10]);
}

#[test]
fn rotation_can_change_the_kind_of_key() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let (clock, _manual_clock) = testing::clock();
    let token = sign(&KeySet::read(&file, clock.now()).expect("a key set"), clock.now());
    rotation::rotate(&file, Some(NewKey::EdDsa), Duration::ZERO, &clock).expect("rotated");
    let keys = KeySet::read(&file, clock.now()).expect("a key set");
    assert_eq!(keys.public().keys.len(), 1);
    token::verify(&keys, &token_args(), &token, clock.now()).expect("valid");
    token::verify(&keys, &token_args(), &sign(&keys, clock.now()), clock.now()).expect("valid");
    // A verifier with only the public keys would reject tokens that were signed with the shared key.
    assert!(keys.public_if_complete().keys.is_empty());
    let error = rotation::rotate(&file, Some(NewKey::Hs256), Duration::ZERO, &clock).expect_err("refused");
    assert!(error.to_string().contains("cannot follow a public one"), "{error}");
}

#[test]
fn concurrent_rotations_are_refused() {
    let (folder, file) = key_file(NewKey::Hs256);
    let lock = File::open(folder.path()).expect("the folder");
    lock.try_lock().expect("free");
    let (clock, _manual_clock) = testing::clock();
    let error = rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("refused");
    assert!(error.to_string().contains("being rotated already"), "{error}");
    assert_eq!(kids(&file).len(), 1);
}

#[test]
fn unusable_file_is_left_unchanged() {
    let folder = testing::folder();
    let (clock, _manual_clock) = testing::clock();
    let file = folder.path().join("keys.json");
    rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("the file does not exist");
    for text in [
        "",
        r#"{"keys":[]}"#,
        &json!({"keys": [public_key(ED25519_BASEPOINT_POINT.compress().as_bytes())]}).to_string(),
    ] {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("the file is unusable");
        assert_eq!(fs::read_to_string(&file).expect("the file exists"), text);
    }
}
