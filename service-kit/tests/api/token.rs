//! Which tokens are accepted: those that we sign, and nothing else (RFC 8725).

use std::{fs, os::unix::fs::PermissionsExt};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use service_kit::{
    auth::{
        claims::AccessClaims,
        keys::KeySet,
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
const NOW: i64 = 1_800_000_000;

fn names() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// A set of two keys; `first` signs.
fn keys() -> KeySet {
    let folder = testing::folder();
    let file = folder.path().join("keys.json");
    let key = |kid: &str, secret: &[u8]| json!({"kty": "oct", "kid": kid, "k": BASE64.encode(secret)});
    let set = json!({"keys": [key("first", SECRET), key("second", &[7; 32])]});
    fs::write(&file, set.to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    KeySet::read(&file, Timestamp::from_seconds(NOW)).expect("a key set")
}

fn header() -> Value {
    json!({"alg": "HS256", "kid": "first", "typ": "at+jwt"})
}

fn claims() -> Value {
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

/// A token with a right signature over any header and payload.
fn forge(header: &str, claims: &str) -> String {
    sign(&format!("{}.{}", BASE64.encode(header), BASE64.encode(claims)), SECRET)
}

fn verify(token: &str) -> Result<AccessClaims, TokenError> {
    token::verify(&keys(), &names(), token, Timestamp::from_seconds(NOW))
}

#[track_caller]
fn accepted(token: &str) {
    assert!(verify(token).is_ok(), "{token}");
}

#[track_caller]
fn invalid(token: &str) {
    let reason = verify(token).map_err(|fault| ApiError::from(fault).reason());
    assert_eq!(reason, Err(ErrorReason::TokenInvalid), "{token}");
}

/// The good object with one member changed; `null` stands for itself.
fn with(mut object: Value, member: &str, value: Value) -> String {
    object[member] = value;
    object.to_string()
}

fn without(mut object: Value, member: &str) -> String {
    object.as_object_mut().expect("an object").remove(member);
    object.to_string()
}

#[test]
fn a_signed_token_is_accepted_and_says_what_was_granted() {
    let now = Timestamp::from_seconds(NOW);
    let claims = AccessClaims {
        id: Uuid::from_u128(3),
        user_id: Uuid::from_u128(1),
        session_id: Uuid::from_u128(2),
        roles: vec!["admin".to_owned()],
        issued_at: now,
        expires_at: Timestamp::from_seconds(NOW + 300),
    };
    let token = token::sign(&keys(), &names(), &claims).expect("signed");
    assert_eq!(verify(&token), Ok(claims));
    let header = token.split('.').next().expect("a header");
    let header: Value = serde_json::from_slice(&BASE64.decode(header).expect("base64")).expect("JSON");
    assert_eq!(header, json!({"alg": "HS256", "kid": "first", "typ": "at+jwt"}));
}

#[test]
fn every_key_of_the_set_verifies() {
    accepted(&forge(&header().to_string(), &claims().to_string()));
    let header = with(header(), "kid", json!("second"));
    let message = format!("{}.{}", BASE64.encode(&header), BASE64.encode(claims().to_string()));
    accepted(&sign(&message, &[7; 32]));
    invalid(&sign(&message, SECRET));
}

#[test]
fn a_claim_that_is_absent_or_mistyped_is_refused() {
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        invalid(&forge(&header().to_string(), &without(claims(), claim)));
        for value in [json!(null), json!({}), json!([1]), json!(true), json!(""), json!("x"), json!(-1.5), json!(1e300)]
        {
            invalid(&forge(&header().to_string(), &with(claims(), claim, value)));
        }
    }
    for value in [json!(null), json!("1"), json!(1.5), json!(NOW + 6)] {
        invalid(&forge(&header().to_string(), &with(claims(), "nbf", value)));
    }
    accepted(&forge(&header().to_string(), &with(claims(), "nbf", json!(NOW + 5))));
}

#[test]
fn ids_that_are_no_uuids_in_their_usual_form_are_refused() {
    for claim in ["sub", "sid", "jti"] {
        for id in ["1", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}"] {
            invalid(&forge(&header().to_string(), &with(claims(), claim, json!(id))));
        }
    }
}

#[test]
fn a_doubled_member_is_refused() {
    let doubled = |object: Value, member: &str| {
        let text = object.to_string();
        format!("{},\"{member}\":{}}}", &text[..text.len() - 1], object[member])
    };
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        invalid(&forge(&header().to_string(), &doubled(claims(), claim)));
    }
    for member in ["alg", "kid", "typ"] {
        invalid(&forge(&doubled(header(), member), &claims().to_string()));
    }
}

#[test]
fn a_header_that_is_not_exactly_ours_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256"] {
        invalid(&forge(&with(header(), "alg", json!(alg)), &claims().to_string()));
    }
    for typ in ["JWT", "jwt", "", "application/at+jwt", "AT+JWT", "dpop+jwt"] {
        invalid(&forge(&with(header(), "typ", json!(typ)), &claims().to_string()));
    }
    for kid in ["", "third", "../../dev/null", "' or 1=1 --", "first\0"] {
        invalid(&forge(&with(header(), "kid", json!(kid)), &claims().to_string()));
    }
    for member in ["alg", "kid", "typ"] {
        invalid(&forge(&without(header(), member), &claims().to_string()));
        invalid(&forge(&with(header(), member, json!(null)), &claims().to_string()));
        invalid(&forge(&with(header(), member, json!([header()[member]])), &claims().to_string()));
    }
    for member in ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "cty", "anything"] {
        invalid(&forge(&with(header(), member, json!(null)), &claims().to_string()));
        invalid(&forge(&with(header(), member, json!(["exp"])), &claims().to_string()));
    }
}

#[test]
fn another_issuer_or_audience_is_refused() {
    for (claim, value) in [
        ("iss", json!("other")),
        ("iss", json!("Taskey")),
        ("aud", json!("other")),
        ("aud", json!(["taskey"])),
        ("aud", json!(["taskey", "other"])),
    ] {
        invalid(&forge(&header().to_string(), &with(claims(), claim, value)));
    }
}

#[test]
fn a_token_is_good_until_its_time_and_a_leeway_have_passed() {
    let expiring = |exp: i64| verify(&forge(&header().to_string(), &with(claims(), "exp", json!(exp))));
    assert!(expiring(NOW - 4).is_ok());
    assert_eq!(expiring(NOW - 5), Err(TokenError::Expired));
    assert_eq!(expiring(NOW - 9), Err(TokenError::Expired));
}

#[test]
fn a_life_over_fifteen_minutes_or_a_start_in_the_future_is_refused() {
    let lasting = |iat: i64, exp: i64| {
        let mut claims = claims();
        claims["iat"] = json!(iat);
        forge(&header().to_string(), &with(claims, "exp", json!(exp)))
    };
    accepted(&lasting(NOW, NOW + 900));
    invalid(&lasting(NOW, NOW + 901));
    invalid(&lasting(NOW, NOW));
    invalid(&lasting(NOW + 10, NOW + 5));
    accepted(&lasting(NOW + 5, NOW + 300));
    invalid(&lasting(NOW + 6, NOW + 300));
    invalid(&lasting(i64::MIN, i64::MAX));
    invalid(&lasting(i64::MAX, i64::MAX));
    invalid(&lasting(0, i64::MAX));
}

#[test]
fn a_token_with_a_wrong_or_no_signature_is_refused() {
    let good = forge(&header().to_string(), &claims().to_string());
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    invalid(message);
    invalid(&format!("{message}."));
    invalid(&format!("{message}.{}", BASE64.encode([0; 32])));
    invalid(&format!("{message}.{}", &signature[..signature.len() - 2]));
    invalid(&sign(message, b"another secret of thirty-two byte"));
    invalid(&sign(message, b""));
    let none = with(header(), "alg", json!("none"));
    invalid(&format!("{}.{}.", BASE64.encode(none), BASE64.encode(claims().to_string())));
}

#[test]
fn what_has_another_shape_is_refused() {
    let good = forge(&header().to_string(), &claims().to_string());
    let json = json!({"payload": "x", "protected": "y", "signature": "z"}).to_string();
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "ä.ö.ü",
        &json,
        &format!("{good}.{good}"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!(" {good}"),
        &format!("{good}="),
        &good.replace('.', ".\n"),
    ] {
        invalid(token);
    }
    let nested = forge(&header().to_string(), &json!(good).to_string());
    invalid(&nested);
}

#[test]
fn base64_is_not_read_leniently() {
    let good = forge(&header().to_string(), &claims().to_string());
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    // The last character of 32 bytes carries two bits that mean nothing; only one spelling is right.
    let last = signature.chars().last().expect("not empty");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.chars().filter(|other| *other != last) {
        invalid(&format!("{message}.{}{other}", &signature[..signature.len() - 1]));
    }
    let header = base64::prelude::BASE64_URL_SAFE.encode(header().to_string() + "  ");
    assert!(header.ends_with('='));
    invalid(&sign(&format!("{header}.{}", BASE64.encode(claims().to_string())), SECRET));
}

#[test]
fn a_token_that_is_too_long_is_refused_although_it_is_signed() {
    let padded = |length: usize| with(claims(), "more", json!("x".repeat(length)));
    accepted(&forge(&header().to_string(), &padded(2000)));
    let long = forge(&header().to_string(), &padded(MAX_TOKEN_BYTES));
    invalid(&long);
    invalid(&"x".repeat(16 * 1024));
}
