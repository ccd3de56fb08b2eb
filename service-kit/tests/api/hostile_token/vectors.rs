//! The tokens of these tests as vectors for verifiers in other languages: `clients/conformance/vectors.json`.

use std::{cell::RefCell, collections::HashSet, env, fs};

use service_kit::auth::claims::AccessClaims;
use tonic::Status;

use super::{BASE64, Engine, NOW, SECRET, Value, claims, confusion, header, json, public_key, shape, testing};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/conformance/vectors.json");

/// Rewrites the file if it differs, instead of failing.
const RENEW: &str = "TASKEY_TEST_RENEW_VECTORS";

/// The most refused tokens per test. Of more, a part is selected that is spread evenly, because some tests try every
/// bit.
const MAX_REFUSED: usize = 32;

/// Longer tokens would only make the file larger.
const MAX_BYTES: usize = 6000;

/// The tests, by name, whose tokens are written.
const TESTS: [(&str, fn()); 35] = [
    ("valid", super::valid_tokens_are_accepted),
    ("times_at_their_limits", claims::times_are_accepted_up_to_their_limits),
    ("expired", claims::expiry_is_reported_only_for_otherwise_valid_tokens),
    ("claim_absent_or_invalid", claims::absent_or_invalid_claim_is_refused),
    ("time_not_current", claims::time_that_is_not_an_integer_or_not_current_is_refused),
    ("issuer_or_audience", claims::issuer_or_audience_that_differs_slightly_is_refused),
    ("id_format", claims::id_in_another_format_is_refused),
    ("roles", claims::roles_must_be_a_list_of_strings),
    ("scope", claims::scope_that_is_not_a_list_of_names_is_refused),
    ("duplicate_claim", claims::duplicate_claim_is_refused_in_either_order),
    ("payload_not_an_object", claims::payload_that_is_not_a_json_object_is_refused),
    ("payload_not_utf8", claims::a_payload_that_is_not_utf8_is_refused),
    ("list_of_claims", claims::a_list_of_claims_is_refused),
    ("nested_token", claims::nested_token_is_refused),
    ("alg_none", confusion::no_spelling_of_alg_none_is_accepted),
    ("public_key_as_secret", confusion::public_key_is_not_accepted_as_shared_secret),
    ("other_key", confusion::key_does_not_sign_for_the_other_key),
    ("other_algorithm", confusion::other_algorithms_are_refused_despite_a_valid_signature),
    ("degenerate_signature", confusion::degenerate_signatures_are_refused),
    ("changed_signature", confusion::truncated_extended_or_changed_signature_is_refused),
    ("malleable_signature", confusion::signature_is_not_malleable),
    ("key_in_header", || header::assert_keys_refused("http://127.0.0.1:1/keys.json")),
    ("kid", header::hostile_kid_is_refused),
    ("header_member", header::members_that_change_the_signed_data_or_algorithm_are_refused),
    ("typ", header::other_token_type_is_refused),
    ("header_absent_or_mistyped", header::absent_or_mistyped_member_is_refused),
    ("duplicate_header", header::duplicate_member_is_refused_in_either_order),
    ("header_not_an_object", header::header_that_is_not_a_json_object_is_refused),
    ("list_of_header_members", header::a_list_of_members_is_refused),
    ("number_of_parts", shape::wrong_number_of_parts_is_refused),
    ("json_serialization", shape::json_serialization_is_refused),
    ("base64", shape::base64_is_decoded_strictly),
    ("unused_base64_bits", shape::unused_base64_bits_must_be_zero),
    ("surrounding_characters", shape::surrounding_characters_are_not_ignored),
    ("length", shape::otherwise_valid_token_that_is_too_long_is_refused),
];

thread_local! {
    /// The tokens that this thread has verified, with their verdicts, while it records them.
    static RECORDED: RefCell<Option<Vec<(String, Value)>>> = const { RefCell::new(None) };
}

/// Records the verdict on a token, if this thread records them.
pub(super) fn record(token: &str, result: &Result<AccessClaims, Status>) {
    RECORDED.with_borrow_mut(|recorded| {
        let Some(recorded) = recorded else { return };
        let verdict = match result {
            Ok(claims) => json!({"claims": to_json(claims)}),
            Err(status) => json!({"reason": testing::refusal(status).1}),
        };
        recorded.push((token.to_owned(), verdict));
    });
}

/// Returns the claims under their names in the token.
fn to_json(claims: &AccessClaims) -> Value {
    let mut json = json!({
        "sub": claims.user_id.to_string(),
        "sid": claims.session_id.to_string(),
        "jti": claims.id.to_string(),
        "roles": claims.roles,
        "iat": claims.issued_at.as_seconds(),
        "exp": claims.expires_at.as_seconds(),
    });
    if let Some(scopes) = claims.scopes {
        json["scope"] = json!(scopes.to_string());
    }
    json
}

/// Runs a test, and returns its tokens with their verdicts.
fn tokens(test: fn()) -> Vec<(String, Value)> {
    RECORDED.set(Some(Vec::new()));
    test();
    RECORDED.take().expect("recorded")
}

/// Returns the vectors of all tests.
fn vectors() -> Vec<Value> {
    let (mut vectors, mut seen) = (Vec::new(), HashSet::new());
    for (name, test) in TESTS {
        let mut tokens = tokens(test);
        // Without a token, the reason is TOKEN_MISSING.
        tokens.retain(|(token, _)| !token.is_empty() && token.len() <= MAX_BYTES && seen.insert(token.clone()));
        let is_refused = |verdict: &Value| verdict["reason"] == "TOKEN_INVALID";
        let step = tokens.iter().filter(|(_, verdict)| is_refused(verdict)).count().div_ceil(MAX_REFUSED).max(1);
        let mut numbers = 0..;
        tokens.retain(|(_, verdict)| !is_refused(verdict) || numbers.next().is_some_and(|number| number % step == 0));
        for (number, (token, mut verdict)) in tokens.into_iter().enumerate() {
            verdict["name"] = json!(format!("{name} {}", number + 1));
            verdict["token"] = json!(token);
            vectors.push(verdict);
        }
    }
    vectors
}

#[test]
fn the_committed_vectors_are_up_to_date() {
    let keys = json!({"keys": [
        {"kty": "oct", "kid": "shared", "alg": "HS256", "k": BASE64.encode(SECRET)},
        {"kty": "OKP", "kid": "pair", "alg": "EdDSA", "crv": "Ed25519", "x": BASE64.encode(public_key())},
    ]});
    let lines: Vec<_> = vectors().iter().map(|vector| format!("    {vector}")).collect();
    let text = format!(
        "{{\n  \"issuer\": \"taskey\",\n  \"audience\": \"taskey\",\n  \"now\": {NOW},\n  \"keys\": {keys},\n  \"vectors\": \
         [\n{}\n  ]\n}}\n",
        lines.join(",\n")
    );
    if env::var_os(RENEW).is_some() {
        fs::write(FILE, &text).expect("written");
    }
    assert!(
        fs::read_to_string(FILE).unwrap_or_default() == text,
        "clients/conformance/vectors.json differs from these tests: run this test with {RENEW}=yes and commit the change"
    );
}
