//! Properties that must hold for every input. The fuzz targets in `fuzz/` search for counterexamples; the tests run the
//! inputs of their corpora.

use std::{collections::HashSet, sync::LazyLock};

use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    auth::{
        actor::Actor,
        authentication::{AuthMethods, Authentication},
        claims::{AccessClaims, LEEWAY, MAX_LIFETIME},
        keys::KeySet,
        scope::Scopes,
        token::{self, MAX_TOKEN_BYTES},
    },
    clock::Timestamp,
    ops::config::TokenArgs,
};

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8; 32] = b"thirty-two bytes to sign a token";
const SEED: &[u8; 32] = b"and thirty-two more for Ed25519.";

/// A key set with a shared secret and a key pair, derived from the constants above.
const KEYS: &str = r#"{"keys":[
    {"kty":"oct","kid":"shared","k":"dGhpcnR5LXR3byBieXRlcyB0byBzaWduIGEgdG9rZW4"},
    {"kty":"OKP","crv":"Ed25519","kid":"pair","x":"TsOmrNrIsIJpbzlAsdz0UJ1o5g86-6tjmimHCFRT7SY",
     "d":"YW5kIHRoaXJ0eS10d28gbW9yZSBmb3IgRWQyNTUxOS4"}
]}"#;

static KEY_SET: LazyLock<KeySet> = LazyLock::new(|| parse(KEYS).expect("a key set"));

fn parse(text: &str) -> anyhow::Result<KeySet> {
    KeySet::parse(text, Timestamp::from_seconds(NOW))
}

fn token_args() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// Verifies a token as a server does.
fn verify(token: &str) -> Option<AccessClaims> {
    token::verify(&KEY_SET, &token_args(), token, Timestamp::from_seconds(NOW)).ok()
}

fn hmac_signature(message: &str) -> String {
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()))
}

fn ed25519_signature(message: &str) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(SEED).expect("a seed");
    BASE64.encode(pair.sign(message.as_bytes()))
}

/// Verifies any text as a token. Two lines are also used as header and claims of a token with a correct signature,
/// which fuzzing would never find.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_token(text);
    if let Some((header, claims)) = text.split_once('\n') {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        check_token(&format!("{message}.{}", hmac_signature(&message)));
        check_token(&format!("{message}.{}", ed25519_signature(&message)));
    }
}

/// Checks that a token is accepted only if it has the form and the signature of an issued token.
fn check_token(token: &str) {
    let Some(verified) = verify(token) else { return };
    assert!(token.len() <= MAX_TOKEN_BYTES);
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("not three parts") };
    let message = format!("{header}.{claims}");
    let header = decode_object(header);
    if header == json!({"alg": "HS256", "kid": "shared", "typ": "at+jwt"}) {
        assert_eq!(signature, hmac_signature(&message));
    } else {
        assert_eq!(header, json!({"alg": "EdDSA", "kid": "pair", "typ": "at+jwt"}));
        assert_eq!(signature, ed25519_signature(&message));
    }
    let claims = decode_object(claims);
    let time = |name: &str| claims[name].as_i64().expect("a whole number");
    let (issued, expires) = (time("iat"), time("exp"));
    let leeway = i64::try_from(LEEWAY.as_secs()).expect("a short time");
    assert!(issued <= NOW + leeway && expires + leeway > NOW && expires > issued);
    assert!(u64::try_from(expires - issued).is_ok_and(|lifetime| lifetime <= MAX_LIFETIME.as_secs()));
    assert!(claims.get("nbf").is_none() || time("nbf") <= NOW + leeway);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("taskey"), &json!("taskey")));
    let id = |name: &str| claims[name].as_str().and_then(|id| Uuid::try_parse(id).ok()).expect("a UUID");
    id("jti");
    let expected = AccessClaims {
        id: id("jti"),
        user_id: id("sub"),
        session_id: id("sid"),
        roles: serde_json::from_value(claims["roles"].clone()).expect("a list of strings"),
        scopes: claims.get("scope").map(known_scopes),
        authentication: claims.get("auth_time").map(|time| authentication(time, issued, claims.get("amr"))),
        issued_at: Timestamp::from_seconds(issued),
        expires_at: Timestamp::from_seconds(expires),
        actors: actors(claims.get("act")),
    };
    assert_eq!(verified, expected);
    if verified.scopes.is_some_and(Scopes::is_empty) {
        return;
    }
    let reissued = token::sign(&KEY_SET, &token_args(), &verified).expect("signed");
    assert!(reissued.len() > MAX_TOKEN_BYTES || verify(&reissued).as_ref() == Some(&verified), "{reissued}");
}

/// Returns the actors in a claim, the last one first.
fn actors(claim: Option<&Value>) -> Vec<Actor> {
    let mut next = claim;
    let actors = std::iter::from_fn(|| {
        let actor = next?;
        next = actor.get("act");
        Some(actor)
    });
    let id = |value: &Value| value.as_str().and_then(|id| Uuid::try_parse(id).ok()).expect("a UUID");
    actors.map(|actor| Actor { id: id(&actor["sub"]), session_id: actor.get("sid").map(id) }).collect()
}

/// Returns the scopes in a claim that this version knows. No scope may be in the claim twice.
fn known_scopes(claim: &Value) -> Scopes {
    let names: Vec<_> = claim.as_str().expect("a string").split(' ').collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    assert!(!names.contains(&""));
    names.into_iter().filter_map(|name| name.parse().ok()).collect()
}

/// Returns the claims `auth_time` and `amr`, with the methods that this version knows.
fn authentication(time: &Value, issued: i64, methods: Option<&Value>) -> Authentication {
    let methods: Vec<String> =
        methods.map(|methods| serde_json::from_value(methods.clone()).expect("a list of strings")).unwrap_or_default();
    let methods = AuthMethods::from_names(methods.iter().map(String::as_str));
    let time = time.as_i64().expect("a whole number").min(issued);
    Authentication { methods, time: Timestamp::from_seconds(time) }
}

/// Decodes a part of a token, and checks that its base64 encoding is canonical.
fn decode_object(part: &str) -> Value {
    let bytes = BASE64.decode(part).expect("base64url");
    assert_eq!(BASE64.encode(&bytes), part);
    let object: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert!(object.is_object(), "{object}");
    object
}

/// Parses any text as a JWK Set. A valid set can sign and verify tokens. Neither the public set nor an error shows a
/// secret.
pub fn jwk_set(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let output = match parse(text) {
        Ok(keys) => {
            sign_and_verify(&keys);
            let public = keys.public_json().expect("JSON");
            assert!(serde_json::from_str::<Value>(&public).expect("JSON")["keys"].is_array());
            assert_eq!(parse(text).expect("the same text"), keys);
            // Key ids are not secret.
            public.lines().filter(|line| !line.contains("\"kid\"")).collect()
        }
        Err(error) => format!("{error:#}"),
    };
    for secret in secrets(text) {
        assert!(!output.contains(&secret), "{output}");
    }
}

/// Signs and verifies a token, unless the set has only public keys.
fn sign_and_verify(keys: &KeySet) {
    if keys.signing().is_none() {
        return;
    }
    let now = Timestamp::from_seconds(NOW);
    let claims = AccessClaims {
        id: Uuid::from_u128(3),
        user_id: Uuid::from_u128(1),
        session_id: Uuid::from_u128(2),
        roles: Vec::new(),
        scopes: None,
        authentication: None,
        issued_at: now,
        expires_at: now + MAX_LIFETIME,
        actors: Vec::new(),
    };
    let token = token::sign(keys, &token_args(), &claims).expect("the first key signs");
    assert_eq!(token::verify(keys, &token_args(), &token, now), Ok(claims));
}

/// Returns the secrets in the text, except short ones and those with spaces, which a message may contain by chance.
fn secrets(text: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(text).unwrap_or_default();
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    let members = keys.iter().flat_map(|key| [&key["k"], &key["d"]]);
    members
        .filter_map(Value::as_str)
        .filter(|secret| secret.len() >= 32 && !secret.contains(' '))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_corpus;

    #[test]
    fn key_set_contains_the_signing_keys() {
        let message = "message";
        assert_eq!(BASE64.encode(SECRET), "dGhpcnR5LXR3byBieXRlcyB0byBzaWduIGEgdG9rZW4");
        assert_eq!(KEY_SET.public().keys.len(), 1);
        assert_ne!(hmac_signature(message), ed25519_signature(message));
    }

    #[test]
    fn token_corpus_upholds_the_properties() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/token"), token);
    }

    #[test]
    fn jwk_set_corpus_upholds_the_properties() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/jwk_set"), jwk_set);
    }
}
