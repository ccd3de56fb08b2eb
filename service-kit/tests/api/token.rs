//! Only unexpired tokens that were signed by one of our keys are accepted (RFC 8725).

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{
    auth::{
        actor::Actor,
        authentication::{AuthMethods, Authentication},
        claims::AccessClaims,
        keys::KeySet,
        scope::Scope,
        token::{self, MAX_TOKEN_BYTES, TokenError},
    },
    clock::Timestamp,
    ops::config::TokenArgs,
    status::ApiError,
    testing,
};
use taskey_proto::errors::v1::ErrorReason;
use uuid::Uuid;

const SECRET: &[u8; 32] = b"thirty-two bytes to sign a token";
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// Returns a set of two keys. `first` signs.
pub(crate) fn keys() -> KeySet {
    let folder = testing::folder();
    let file = folder.path().join("keys.json");
    let key = |kid: &str, secret: &[u8]| json!({"kty": "oct", "kid": kid, "k": BASE64.encode(secret)});
    let set = json!({"keys": [key("first", SECRET), key("second", &[7; 32])]});
    fs::write(&file, set.to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    KeySet::read(&file, Timestamp::from_seconds(NOW)).expect("a key set")
}

pub(crate) fn header() -> Value {
    json!({"alg": "HS256", "kid": "first", "typ": "at+jwt"})
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "taskey", "aud": "taskey", "iat": NOW - 10, "exp": NOW + 290, "roles": [],
        "sub": "01890a5d-ac96-774b-bcce-b302099a8057", "sid": "01890a5d-ac96-774b-bcce-b302099a8058",
        "jti": "01890a5d-ac96-774b-bcce-b302099a8059",
    })
}

fn sign(message: &str, secret: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", BASE64.encode(tag))
}

/// Returns a token with a valid signature over any header and payload.
pub(crate) fn forge(header: &str, claims: &str) -> String {
    sign(&format!("{}.{}", BASE64.encode(header), BASE64.encode(claims)), SECRET)
}

pub(crate) fn verify(token: &str) -> Result<AccessClaims, TokenError> {
    token::verify(&keys(), &token_args(), token, Timestamp::from_seconds(NOW))
}

#[track_caller]
fn assert_accepted(token: &str) {
    assert!(verify(token).is_ok(), "{token}");
}

#[track_caller]
fn assert_invalid(token: &str) {
    let reason = verify(token).map_err(|error| ApiError::from(error).reason());
    assert_eq!(reason, Err(ErrorReason::TokenInvalid), "{token}");
}

/// Returns the object with one member replaced, as JSON. A `null` is not removed.
pub(crate) fn with(mut object: Value, member: &str, value: Value) -> String {
    object[member] = value;
    object.to_string()
}

fn without(mut object: Value, member: &str) -> String {
    object.as_object_mut().expect("an object").remove(member);
    object.to_string()
}

#[test]
fn signed_token_is_accepted_and_returns_its_claims() {
    let now = Timestamp::from_seconds(NOW);
    let claims = AccessClaims {
        id: Uuid::from_u128(3),
        user_id: Uuid::from_u128(1),
        session_id: Uuid::from_u128(2),
        roles: vec!["admin".to_owned()],
        scopes: Some([Scope::TasksRead, Scope::AccountRead].into_iter().collect()),
        authentication: Some(Authentication {
            methods: AuthMethods::from_names(["pwd", "otp", "mfa"]),
            time: Timestamp::from_seconds(NOW - 60),
        }),
        issued_at: now,
        expires_at: Timestamp::from_seconds(NOW + 300),
        actors: vec![actor(5, Some(6)), actor(4, None)],
    };
    let token = token::sign(&keys(), &token_args(), &claims).expect("signed");
    assert_eq!(verify(&token), Ok(claims));
    let header = token.split('.').next().expect("a header");
    let header: Value = serde_json::from_slice(&BASE64.decode(header).expect("base64")).expect("JSON");
    assert_eq!(header, json!({"alg": "HS256", "kid": "first", "typ": "at+jwt"}));
}

#[test]
fn every_key_of_the_set_verifies() {
    assert_accepted(&forge(&header().to_string(), &claims().to_string()));
    let header = with(header(), "kid", json!("second"));
    let message = format!("{}.{}", BASE64.encode(&header), BASE64.encode(claims().to_string()));
    assert_accepted(&sign(&message, &[7; 32]));
    assert_invalid(&sign(&message, SECRET));
}

#[test]
fn absent_or_mistyped_claim_is_refused() {
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        assert_invalid(&forge(&header().to_string(), &without(claims(), claim)));
        for value in [json!(null), json!({}), json!([1]), json!(true), json!(""), json!("x"), json!(-1.5), json!(1e300)]
        {
            assert_invalid(&forge(&header().to_string(), &with(claims(), claim, value)));
        }
    }
    for value in [json!(null), json!("1"), json!(1.5), json!(NOW + 6)] {
        assert_invalid(&forge(&header().to_string(), &with(claims(), "nbf", value)));
    }
    assert_accepted(&forge(&header().to_string(), &with(claims(), "nbf", json!(NOW + 5))));
}

fn actor(id: u128, session_id: Option<u128>) -> Actor {
    Actor { id: Uuid::from_u128(id), session_id: session_id.map(Uuid::from_u128) }
}

#[test]
fn actors_are_parsed_and_their_number_is_limited() {
    let nested = |ids: &[u128]| {
        let nest = |act: Option<Value>, id: &u128| {
            let sub = json!({"sub": Uuid::from_u128(*id).to_string(), "iss": "ignored"});
            Some(match act {
                Some(act) => serde_json::from_str(&with(sub, "act", act)).expect("JSON"),
                None => sub,
            })
        };
        let act = ids.iter().rev().fold(None, nest).expect("an actor");
        verify(&forge(&header().to_string(), &with(claims(), "act", act)))
    };
    assert!(verify(&forge(&header().to_string(), &claims().to_string())).expect("valid").actors.is_empty());
    assert_eq!(nested(&[5]).expect("valid").actors, [actor(5, None)]);
    assert_eq!(nested(&[5, 4, 3]).expect("valid").actors, [5, 4, 3].map(|id| actor(id, None)));
    assert_eq!(nested(&[5, 4, 3, 2]), Err(TokenError::Invalid));
    let id = Uuid::from_u128(5).to_string();
    let invalid_sessions = [json!(null), json!("x"), json!(5)].map(|sid| json!({"sub": id, "sid": sid}));
    let invalid =
        [json!(null), json!("x"), json!({}), json!({"sub": "x"}), json!({"sub": id, "act": null}), json!([id])];
    for act in invalid.into_iter().chain(invalid_sessions) {
        assert_invalid(&forge(&header().to_string(), &with(claims(), "act", act)));
    }
}

#[test]
fn ids_must_be_hyphenated_uuids() {
    for claim in ["sub", "sid", "jti"] {
        for id in ["1", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}"] {
            assert_invalid(&forge(&header().to_string(), &with(claims(), claim, json!(id))));
        }
    }
}

#[test]
fn duplicate_member_is_refused() {
    let duplicate = |object: Value, member: &str| {
        let text = object.to_string();
        format!("{},\"{member}\":{}}}", &text[..text.len() - 1], object[member])
    };
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        assert_invalid(&forge(&header().to_string(), &duplicate(claims(), claim)));
    }
    for member in ["alg", "kid", "typ"] {
        assert_invalid(&forge(&duplicate(header(), member), &claims().to_string()));
    }
}

#[test]
fn header_with_unexpected_members_or_values_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256"] {
        assert_invalid(&forge(&with(header(), "alg", json!(alg)), &claims().to_string()));
    }
    for typ in ["JWT", "jwt", "", "application/at+jwt", "AT+JWT", "dpop+jwt"] {
        assert_invalid(&forge(&with(header(), "typ", json!(typ)), &claims().to_string()));
    }
    for kid in ["", "third", "../../dev/null", "' or 1=1 --", "first\0"] {
        assert_invalid(&forge(&with(header(), "kid", json!(kid)), &claims().to_string()));
    }
    for member in ["alg", "kid", "typ"] {
        assert_invalid(&forge(&without(header(), member), &claims().to_string()));
        assert_invalid(&forge(&with(header(), member, json!(null)), &claims().to_string()));
        assert_invalid(&forge(&with(header(), member, json!([header()[member]])), &claims().to_string()));
    }
    for member in ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "cty", "anything"] {
        assert_invalid(&forge(&with(header(), member, json!(null)), &claims().to_string()));
        assert_invalid(&forge(&with(header(), member, json!(["exp"])), &claims().to_string()));
    }
}

#[test]
fn other_issuer_or_audience_is_refused() {
    for (claim, value) in [
        ("iss", json!("other")),
        ("iss", json!("Taskey")),
        ("aud", json!("other")),
        ("aud", json!(["taskey"])),
        ("aud", json!(["taskey", "other"])),
    ] {
        assert_invalid(&forge(&header().to_string(), &with(claims(), claim, value)));
    }
}

#[test]
fn token_is_valid_until_its_expiry_plus_leeway() {
    let expiring = |exp: i64| verify(&forge(&header().to_string(), &with(claims(), "exp", json!(exp))));
    assert!(expiring(NOW - 4).is_ok());
    assert_eq!(expiring(NOW - 5), Err(TokenError::Expired));
    assert_eq!(expiring(NOW - 9), Err(TokenError::Expired));
}

#[test]
fn lifetime_over_fifteen_minutes_or_future_issue_time_is_refused() {
    let with_times = |iat: i64, exp: i64| {
        let mut claims = claims();
        claims["iat"] = json!(iat);
        forge(&header().to_string(), &with(claims, "exp", json!(exp)))
    };
    assert_accepted(&with_times(NOW, NOW + 900));
    assert_invalid(&with_times(NOW, NOW + 901));
    assert_invalid(&with_times(NOW, NOW));
    assert_invalid(&with_times(NOW + 10, NOW + 5));
    assert_accepted(&with_times(NOW + 5, NOW + 300));
    assert_invalid(&with_times(NOW + 6, NOW + 300));
    assert_invalid(&with_times(i64::MIN, i64::MAX));
    assert_invalid(&with_times(i64::MAX, i64::MAX));
    assert_invalid(&with_times(0, i64::MAX));
}

#[test]
fn token_with_wrong_or_no_signature_is_refused() {
    let valid = forge(&header().to_string(), &claims().to_string());
    let (message, signature) = valid.rsplit_once('.').expect("three parts");
    assert_invalid(message);
    assert_invalid(&format!("{message}."));
    assert_invalid(&format!("{message}.{}", BASE64.encode([0; 32])));
    assert_invalid(&format!("{message}.{}", &signature[..signature.len() - 2]));
    assert_invalid(&sign(message, b"another secret of thirty-two byte"));
    assert_invalid(&sign(message, b""));
    let none = with(header(), "alg", json!("none"));
    assert_invalid(&format!("{}.{}.", BASE64.encode(none), BASE64.encode(claims().to_string())));
}

#[test]
fn malformed_token_is_refused() {
    let valid = forge(&header().to_string(), &claims().to_string());
    let json = json!({"payload": "x", "protected": "y", "signature": "z"}).to_string();
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "ä.ö.ü",
        &json,
        &format!("{valid}.{valid}"),
        &format!("{valid}."),
        &format!(".{valid}"),
        &format!(" {valid}"),
        &format!("{valid}="),
        &valid.replace('.', ".\n"),
    ] {
        assert_invalid(token);
    }
    let nested = forge(&header().to_string(), &json!(valid).to_string());
    assert_invalid(&nested);
}

#[test]
fn base64_is_decoded_strictly() {
    let valid = forge(&header().to_string(), &claims().to_string());
    let (message, signature) = valid.rsplit_once('.').expect("three parts");
    // The last base64 character of 32 bytes has two unused bits, which must be zero.
    let last = signature.chars().last().expect("not empty");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.chars().filter(|other| *other != last) {
        assert_invalid(&format!("{message}.{}{other}", &signature[..signature.len() - 1]));
    }
    let header = base64::prelude::BASE64_URL_SAFE.encode(header().to_string() + "  ");
    assert!(header.ends_with('='));
    assert_invalid(&sign(&format!("{header}.{}", BASE64.encode(claims().to_string())), SECRET));
}

#[test]
fn too_long_token_is_refused_despite_a_valid_signature() {
    let padded = |length: usize| with(claims(), "more", json!("x".repeat(length)));
    assert_accepted(&forge(&header().to_string(), &padded(2000)));
    let long = forge(&header().to_string(), &padded(MAX_TOKEN_BYTES));
    assert_invalid(&long);
    assert_invalid(&"x".repeat(16 * 1024));
}

/// The claims of a verified token are kept, but not the result of checking them.
#[test]
fn a_token_that_was_verified_is_checked_again() {
    let keys = keys();
    let token = forge(&header().to_string(), &with(claims(), "nbf", json!(NOW - 5)));
    let verify = |args: &TokenArgs, now: i64| token::verify(&keys, args, &token, Timestamp::from_seconds(now));
    verify(&token_args(), NOW).expect("valid");
    verify(&token_args(), NOW).expect("still valid");
    assert_eq!(verify(&token_args(), NOW + 295), Err(TokenError::Expired));
    // The clock was set back.
    assert_eq!(verify(&token_args(), NOW - 11), Err(TokenError::NotYetValid(Duration::from_secs(6))));
    assert_eq!(verify(&TokenArgs { issuer: "other".to_owned(), ..token_args() }, NOW), Err(TokenError::Invalid));
    assert_eq!(verify(&TokenArgs { audience: "other".to_owned(), ..token_args() }, NOW), Err(TokenError::Invalid));
    verify(&token_args(), NOW).expect("valid for us");
}

#[test]
fn changing_any_byte_of_a_verified_token_invalidates_it() {
    let (keys, args, now) = (keys(), token_args(), Timestamp::from_seconds(NOW));
    let token = forge(&header().to_string(), &claims().to_string());
    token::verify(&keys, &args, &token, now).expect("valid");
    for index in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        token::verify(&keys, &args, &changed, now).expect_err("changed");
    }
}
