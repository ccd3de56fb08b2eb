//! Which keys are used, and how one takes the place of another.

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
fn refused(key: &Value, why: &str) {
    let error = parse(&json!([key])).expect_err("the key is refused");
    assert!(error.contains(why), "{error}");
}

fn shared(kid: &str) -> Value {
    json!({"kty": "oct", "kid": kid, "k": BASE64.encode([7; 32])})
}

fn public(x: impl AsRef<[u8]>) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": BASE64.encode(x)})
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

/// A file with one new key, in a folder that lives as long.
fn key_file(kind: NewKey) -> (tempfile::TempDir, PathBuf) {
    let folder = testing::folder();
    let file = folder.path().join("keys.json");
    rotation::generate(kind, &file).expect("a key file");
    (folder, file)
}

fn read(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("there is the file");
    let set: Value = serde_json::from_str(&text).expect("JSON");
    set["keys"].as_array().expect("keys").clone()
}

fn kids(file: &Path) -> Vec<String> {
    read(file).iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

fn names() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

fn sign(keys: &KeySet, now: Timestamp) -> String {
    let id = Clock::system().new_id();
    let expires_at = now + claims::MAX_LIFETIME;
    let claims = AccessClaims { id, user_id: id, session_id: id, roles: Vec::new(), issued_at: now, expires_at };
    token::sign(keys, &names(), &claims).expect("the key signs")
}

#[test]
fn public_keys_of_small_or_mixed_order_are_refused() {
    for point in EIGHT_TORSION {
        refused(&public(point.compress().as_bytes()), "not a sound public key");
        let mixed = point + ED25519_BASEPOINT_POINT;
        assert_eq!(parse(&json!([public(mixed.compress().as_bytes())])).is_ok(), mixed.is_torsion_free());
    }
}

#[test]
fn points_in_another_spelling_or_off_the_curve_are_refused() {
    let prime = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    };
    // 0 and 1 as p and p + 1, and the identity with the sign of a zero.
    for bytes in [prime(0xed), prime(0xee), [[1].as_slice(), &[0; 30], &[0x80]].concat().try_into().expect("32 bytes")]
    {
        refused(&public(bytes), "not a sound public key");
    }
    let off_curve = (2..=255).map(|low| [low; 32]).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none());
    refused(&public(off_curve.expect("half of them are")), "not a sound public key");
    refused(&public([7; 31]), "not a sound public key");
    refused(&public([7; 33]), "not a sound public key");
    refused(&public(""), "not a sound public key");
}

#[test]
fn malformed_keys_are_refused_and_not_quoted() {
    let good = shared("a");
    for (member, value, why) in [
        ("kty", json!("RSA"), "kty must be"),
        ("kid", json!(""), "kid must have"),
        ("kid", json!("x".repeat(129)), "kid must have"),
        ("use", json!("enc"), "use must be"),
        ("alg", json!("HS512"), "alg must be"),
        ("alg", json!("none"), "alg must be"),
        ("k", json!(BASE64.encode([7; 31])), "at least 32 bytes"),
        ("k", json!("AAAA+/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "k is not base64url"),
    ] {
        refused(&with(good.clone(), member, value), why);
    }
    let x = ED25519_BASEPOINT_POINT.compress();
    for (member, value, why) in [
        ("crv", json!("Ed448"), "crv must be"),
        ("crv", json!("X25519"), "crv must be"),
        ("alg", json!("HS256"), "alg must be"),
        ("x", json!("="), "x is not base64url"),
        ("d", json!(BASE64.encode([7; 31])), "d must have 32 bytes"),
        ("d", json!(BASE64.encode([7; 32])), "x does not go with d"),
    ] {
        refused(&with(public(x.as_bytes()), member, value), why);
    }
    for text in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[{"kty":"oct","kid":"a","k":5}]}"#, "hunter2"] {
        let error = format!("{:#}", KeySet::parse(text, NOW).expect_err("no JWK Set"));
        assert!(error.contains("not a JWK Set") && !error.contains("hunter2"), "{error}");
    }
    assert!(parse(&json!([])).expect_err("refused").contains("no key"));
    assert!(parse(&json!([shared("a"), shared("a")])).expect_err("refused").contains("same kid"));
}

#[test]
fn a_public_key_verifies_and_does_not_sign() {
    let (_folder, file) = key_file(NewKey::EdDsa);
    let pair = KeySet::read(&file, NOW).expect("good");
    let token = sign(&pair, NOW);
    let known = KeySet::parse(&pair.public_json().expect("JSON"), NOW).expect("good");
    assert_eq!(token::verify(&known, &names(), &token, NOW).expect("ours").issued_at, NOW);
    let heard = KeySet::from_public(&pair.public()).expect("good");
    assert!(heard == known);
    // The second time the signature is known; a changed token is still another one.
    token::verify(&heard, &names(), &token, NOW).expect("ours");
    token::verify(&heard, &names(), &token, NOW).expect("still ours");
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let other = sign(&pair, NOW);
    let (_, signature) = other.rsplit_once('.').expect("three parts");
    let mixed = format!("{message}.{signature}");
    assert_eq!(token::verify(&heard, &names(), &mixed, NOW), Err(TokenError::Invalid));
    let claims = token::verify(&heard, &names(), &token, NOW).expect("ours");
    token::sign(&heard, &names(), &claims).expect_err("only the private half signs");
}

#[test]
fn a_key_whose_end_has_come_is_good_for_nothing() {
    let ended = |seconds: i64| with(shared("b"), "exp", json!(NOW.as_seconds() + seconds));
    let both = parse(&json!([shared("a"), ended(1)])).expect("good");
    let one = parse(&json!([shared("a"), ended(0)])).expect("good");
    assert_eq!((format!("{both:?}"), format!("{one:?}")), (r#"["a", "b"]"#.to_owned(), r#"["a"]"#.to_owned()));
    assert!(parse(&json!([ended(0)])).expect_err("refused").contains("no key"));
}

#[test]
fn a_rotation_leaves_the_old_key_until_its_last_token_has_expired() {
    for kind in [NewKey::Hs256, NewKey::EdDsa] {
        let (_folder, file) = key_file(kind);
        let old = KeySet::read(&file, NOW).expect("good");
        let (clock, hands) = testing::clock();
        rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let keys = KeySet::read(&file, clock.now()).expect("good");
        let (new_kid, old_kid) = (kids(&file)[0].clone(), kids(&file)[1].clone());
        assert_eq!(format!("{old:?}"), format!("{:?}", [&old_kid]));
        assert_eq!(read(&file)[0]["alg"], read(&file)[1]["alg"]);

        // A replica that has not looked at the file yet signs with the old key for up to 5 s.
        hands.advance(Duration::from_secs(5));
        let last = sign(&old, clock.now());
        token::verify(&keys, &names(), &last, clock.now()).expect("good");
        hands.advance(claims::MAX_LIFETIME + claims::LEEWAY.saturating_sub(Duration::from_secs(1)));
        let keys = KeySet::read(&file, clock.now()).expect("good");
        token::verify(&keys, &names(), &last, clock.now()).expect("good to the end");
        hands.advance(Duration::from_secs(10));
        let keys = KeySet::read(&file, clock.now()).expect("good");
        assert_eq!(token::verify(&keys, &names(), &last, clock.now()), Err(TokenError::KeyUnknown));
        assert_eq!(format!("{keys:?}"), format!("{:?}", [&new_kid]));

        rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
        assert_eq!(kids(&file)[1..], [new_kid], "what has ended is taken out");
    }
}

#[test]
fn what_an_interrupted_rotation_left_behind_is_thrown_away() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let old = read(&file).remove(0);
    let waiting = with(shared("waiting"), "taskey:waiting", json!(true));
    let other = with(shared("other"), "nbf", json!(NOW.as_seconds()));
    let set = json!({"keys": [old, waiting, other], "comment": "ours"}).to_string();
    fs::write(&file, set).expect("written");
    let (clock, _hands) = testing::clock();
    rotation::rotate(&file, None, Duration::ZERO, &clock).expect("rotated");
    let kids = kids(&file);
    assert_eq!(kids[1..], [old["kid"].as_str().expect("a kid"), "other"]);
    assert!(!kids.contains(&"waiting".to_owned()), "it may have lain there for years");
    let text = fs::read_to_string(&file).expect("there");
    assert!(!text.contains("taskey:waiting") && text.contains(r#""comment": "ours""#), "what it does not know stays");
    assert_eq!(read(&file)[2]["nbf"], NOW.as_seconds());
}

#[test]
fn a_key_ends_no_later_than_its_last_token_and_no_earlier() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let (clock, _hands) = testing::clock();
    let now = clock.now().as_seconds();
    let old = with(read(&file).remove(0), "exp", json!(now + 1_000_000));
    let soon = with(shared("soon"), "exp", json!(now + 10));
    fs::write(&file, json!({"keys": [old, soon]}).to_string()).expect("written");
    let long = Duration::from_millis(1);
    rotation::rotate(&file, None, long, &clock).expect("rotated");
    let ends: Vec<_> = read(&file)[1..].iter().map(|key| key["exp"].as_i64().expect("an end") - now).collect();
    assert_eq!(ends, [5 + 15 * 60 + 10 + 1, 10]);
}

#[test]
fn a_rotation_can_change_the_kind_of_key() {
    let (_folder, file) = key_file(NewKey::Hs256);
    let (clock, _hands) = testing::clock();
    let token = sign(&KeySet::read(&file, clock.now()).expect("good"), clock.now());
    rotation::rotate(&file, Some(NewKey::EdDsa), Duration::ZERO, &clock).expect("rotated");
    let keys = KeySet::read(&file, clock.now()).expect("good");
    assert_eq!(keys.public().keys.len(), 1);
    token::verify(&keys, &names(), &token, clock.now()).expect("good");
    token::verify(&keys, &names(), &sign(&keys, clock.now()), clock.now()).expect("good");
    // Whoever has nothing but public keys would take the tokens of the shared one for forgeries.
    assert!(keys.sufficient_public().keys.is_empty());
    let error = rotation::rotate(&file, Some(NewKey::Hs256), Duration::ZERO, &clock).expect_err("refused");
    assert!(error.to_string().contains("cannot follow a public one"), "{error}");
}

#[test]
fn a_file_is_rotated_once_at_a_time() {
    let (folder, file) = key_file(NewKey::Hs256);
    let held = File::open(folder.path()).expect("the folder");
    held.try_lock().expect("free");
    let (clock, _hands) = testing::clock();
    let error = rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("refused");
    assert!(error.to_string().contains("being rotated already"), "{error}");
    assert_eq!(kids(&file).len(), 1);
}

#[test]
fn what_cannot_be_rotated_is_left_as_it_is() {
    let folder = testing::folder();
    let (clock, _hands) = testing::clock();
    let file = folder.path().join("keys.json");
    rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("there is none");
    for text in
        ["", r#"{"keys":[]}"#, &json!({"keys": [public(ED25519_BASEPOINT_POINT.compress().as_bytes())]}).to_string()]
    {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        rotation::rotate(&file, None, Duration::ZERO, &clock).expect_err("not usable");
        assert_eq!(fs::read_to_string(&file).expect("there"), text);
    }
}
