//! The verifier agrees with the responses of `tests/passkeys/vectors.json`, which another library has made.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    assertion::{self, Expected, StoredCredential, Verification},
    registration::{self, NewCredential},
    rejection::Rejection,
    relying_party::RelyingParty,
    response::{Assertion, Registration},
};

/// Returns the vectors.
fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/passkeys/vectors.json")).expect("JSON")
}

fn cases<'v>(vectors: &'v Value, kind: &str) -> impl Iterator<Item = (&'v str, &'v Value)> {
    let cases = vectors[kind].as_array().expect("a list");
    assert!(cases.len() > 10, "{kind}");
    cases.iter().map(|case| (text(&case["name"]), case))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text(value)).expect("base64url")
}

fn relying_party(vectors: &Value) -> RelyingParty {
    RelyingParty::new(&text(&vectors["origin"]).parse().expect("a URL")).expect("a site")
}

/// Returns the name of an error, without its details.
fn name(rejection: Rejection) -> String {
    format!("{rejection:?}").split('(').next().unwrap_or_default().to_owned()
}

fn register(vectors: &Value, case: &Value) -> Result<NewCredential, Rejection> {
    let response = Registration::parse(&case["response"].to_string())?;
    registration::verify(&response, text(&vectors["challenge"]), &relying_party(vectors))
}

fn log_in(vectors: &Value, case: &Value) -> Result<Verification, Rejection> {
    let response = Assertion::parse(&case["response"].to_string())?;
    let expected = Expected {
        relying_party: &relying_party(vectors),
        challenge: text(&vectors["challenge"]),
        is_passwordless: case["is_second_factor"] != true,
    };
    let stored = StoredCredential {
        id: &bytes(&case["credential_id"]),
        public_key: &bytes(&case["public_key"]),
        user_handle: &bytes(&vectors["user_handle"]),
        sign_count: u32::try_from(case["stored_counter"].as_u64().expect("a counter")).expect("32 bits"),
    };
    assertion::verify(&response, expected, stored)
}

#[test]
fn registrations_are_accepted_or_refused() {
    let vectors = vectors();
    for (case_name, case) in cases(&vectors, "registrations") {
        let outcome = register(&vectors, case);
        if let Some(rejection) = case["rejection"].as_str() {
            assert_eq!(outcome.map_err(name), Err(rejection.to_owned()), "{case_name}");
            continue;
        }
        let credential = outcome.expect(case_name);
        assert_eq!(format!("{:?}", credential.algorithm).to_uppercase(), text(&case["algorithm"]).to_uppercase());
        assert_eq!(credential.aaguid.to_bytes_le()[15], 15, "{case_name}");
        assert_eq!(credential.user_verified, case["user_verified"] != false, "{case_name}");
        assert_eq!(
            (credential.backup_eligible, credential.backed_up),
            (case["backed_up"] == true, case["backed_up"] == true)
        );
        let response = Registration::parse(&case["response"].to_string()).expect(case_name);
        assert_eq!(response.transports(), case["transports"].as_str().unwrap_or_default(), "{case_name}");
    }
}

#[test]
fn assertions_are_accepted_or_refused() {
    let vectors = vectors();
    for (case_name, case) in cases(&vectors, "assertions") {
        let outcome = log_in(&vectors, case);
        if let Some(rejection) = case["rejection"].as_str() {
            assert_eq!(outcome.map_err(name), Err(rejection.to_owned()), "{case_name}");
            continue;
        }
        let verified = outcome.expect(case_name);
        assert_eq!(verified.user_verified, case["user_verified"] != false, "{case_name}");
        assert_eq!(verified.backed_up, case["backed_up"] == true, "{case_name}");
        let counter = case["counter"].as_str().unwrap_or("Consistent");
        assert_eq!(format!("{:?}", verified.counter), counter, "{case_name}");
    }
}

#[test]
fn registered_key_verifies_the_assertions_of_the_same_authenticator() {
    let vectors = vectors();
    let registered: Vec<_> =
        cases(&vectors, "registrations").filter_map(|(_, case)| register(&vectors, case).ok()).collect();
    for (case_name, case) in cases(&vectors, "assertions") {
        let id = bytes(&case["credential_id"]);
        let credential = registered.iter().find(|credential| credential.id == id).expect(case_name);
        assert_eq!(credential.public_key, bytes(&case["public_key"]), "{case_name}");
    }
}

#[test]
fn responses_that_are_no_credentials_are_refused() {
    let vectors = vectors();
    let (_, case) = cases(&vectors, "registrations").next().expect("a case");
    let response = &case["response"];
    for (member, value) in [
        ("type", Value::from("password")),
        ("id", Value::from("AAAA")),
        ("rawId", Value::from("AAAA=")),
        ("response", Value::Null),
    ] {
        let mut changed = response.clone();
        changed[member] = value;
        assert_eq!(Registration::parse(&changed.to_string()), Err(Rejection::Malformed("response")), "{member}");
    }
    let mut long = response.clone();
    long["response"]["attestationObject"] = Value::from("A".repeat(64 * 1024));
    assert_eq!(Registration::parse(&long.to_string()), Err(Rejection::Malformed("response")));
}
