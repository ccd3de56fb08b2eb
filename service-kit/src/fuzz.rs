//! What must hold for any input. The targets in `fuzz/` look for one of which it does not hold; the
//! tests try what lies in their corpora.

use std::sync::LazyLock;

use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    auth::{
        claims::{AccessClaims, LEEWAY, MAX_LIFETIME},
        keys::KeySet,
        token::{self, MAX_TOKEN_BYTES},
    },
    clock::Timestamp,
    ops::config::TokenArgs,
};

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8; 32] = b"thirty-two bytes to sign a token";
const SEED: &[u8; 32] = b"and thirty-two more for Ed25519.";

/// A set of a shared secret and a pair of keys, made of the constants above.
const KEYS: &str = r#"{"keys":[
    {"kty":"oct","kid":"shared","k":"dGhpcnR5LXR3byBieXRlcyB0byBzaWduIGEgdG9rZW4"},
    {"kty":"OKP","crv":"Ed25519","kid":"pair","x":"TsOmrNrIsIJpbzlAsdz0UJ1o5g86-6tjmimHCFRT7SY",
     "d":"YW5kIHRoaXJ0eS10d28gbW9yZSBmb3IgRWQyNTUxOS4"}
]}"#;

static KEY_SET: LazyLock<KeySet> = LazyLock::new(|| parse(KEYS).expect("a key set"));

fn parse(text: &str) -> anyhow::Result<KeySet> {
    KeySet::parse(text, Timestamp::from_seconds(NOW))
}

fn names() -> TokenArgs {
    TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() }
}

/// What a server says of a token.
fn verdict(token: &str) -> Option<AccessClaims> {
    token::verify(&KEY_SET, &names(), token, Timestamp::from_seconds(NOW)).ok()
}

fn shared_signature(message: &str) -> String {
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()))
}

fn pair_signature(message: &str) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(SEED).expect("a seed");
    BASE64.encode(pair.sign(message.as_bytes()))
}

/// Takes any text for a token. Of two lines it makes header and claims of a token that is signed well, since no search
/// would ever find a signature.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    judge(text);
    if let Some((header, claims)) = text.split_once('\n') {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        judge(&format!("{message}.{}", shared_signature(&message)));
        judge(&format!("{message}.{}", pair_signature(&message)));
    }
}

/// If a token is accepted, it is one that we could have made.
fn judge(token: &str) {
    let Some(verified) = verdict(token) else { return };
    assert!(token.len() <= MAX_TOKEN_BYTES);
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("not three parts") };
    let message = format!("{header}.{claims}");
    let header = object(header);
    if header == json!({"alg": "HS256", "kid": "shared", "typ": "at+jwt"}) {
        assert_eq!(signature, shared_signature(&message));
    } else {
        assert_eq!(header, json!({"alg": "EdDSA", "kid": "pair", "typ": "at+jwt"}));
        assert_eq!(signature, pair_signature(&message));
    }
    let claims = object(claims);
    let time = |name: &str| claims[name].as_i64().expect("a whole number");
    let (issued, expires) = (time("iat"), time("exp"));
    let leeway = i64::try_from(LEEWAY.as_secs()).expect("a short time");
    assert!(issued <= NOW + leeway && expires + leeway > NOW && expires > issued);
    assert!(u64::try_from(expires - issued).is_ok_and(|life| life <= MAX_LIFETIME.as_secs()));
    assert!(claims.get("nbf").is_none() || time("nbf") <= NOW + leeway);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("taskey"), &json!("taskey")));
    let id = |name: &str| claims[name].as_str().and_then(|id| Uuid::try_parse(id).ok()).expect("a UUID");
    id("jti");
    let said = AccessClaims {
        id: id("jti"),
        user_id: id("sub"),
        session_id: id("sid"),
        roles: serde_json::from_value(claims["roles"].clone()).expect("a list of strings"),
        issued_at: Timestamp::from_seconds(issued),
        expires_at: Timestamp::from_seconds(expires),
    };
    assert_eq!(verified, said);
    let again = token::sign(&KEY_SET, &names(), &verified).expect("signed");
    assert!(again.len() > MAX_TOKEN_BYTES || verdict(&again).as_ref() == Some(&verified), "{again}");
}

/// What a part of a token holds, in the only spelling that its base64 may have.
fn object(part: &str) -> Value {
    let bytes = BASE64.decode(part).expect("base64url");
    assert_eq!(BASE64.encode(&bytes), part);
    let object: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert!(object.is_object(), "{object}");
    object
}

/// Takes any text for a JWK Set. If it is one, tokens can be signed and verified with it; whether it is one or not, no
/// secret of it is shown.
pub fn jwk_set(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let shown = match parse(text) {
        Ok(keys) => {
            sign_and_verify(&keys);
            let public = keys.public_json().expect("JSON");
            assert!(serde_json::from_str::<Value>(&public).expect("JSON")["keys"].is_array());
            assert_eq!(parse(text).expect("the same text"), keys);
            // What one calls a key is no secret.
            public.lines().filter(|line| !line.contains("\"kid\"")).collect()
        }
        Err(error) => format!("{error:#}"),
    };
    for secret in secrets(text) {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

/// Public keys alone sign nothing.
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
        issued_at: now,
        expires_at: now + MAX_LIFETIME,
    };
    let token = token::sign(keys, &names(), &claims).expect("the first key signs");
    assert_eq!(token::verify(keys, &names(), &token, now), Ok(claims));
}

/// Those secrets in the text that are long enough to be some, and have no spaces: they stand in no sentence by chance.
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
    use crate::testing::feed;

    #[test]
    fn the_keys_of_the_targets_are_those_of_their_signatures() {
        let message = "the same";
        assert_eq!(BASE64.encode(SECRET), "dGhpcnR5LXR3byBieXRlcyB0byBzaWduIGEgdG9rZW4");
        assert_eq!(KEY_SET.public().keys.len(), 1);
        assert_ne!(shared_signature(message), pair_signature(message));
    }

    #[test]
    fn the_corpus_of_tokens_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/token"), token);
    }

    #[test]
    fn the_corpus_of_jwk_sets_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/jwk_set"), jwk_set);
    }
}
