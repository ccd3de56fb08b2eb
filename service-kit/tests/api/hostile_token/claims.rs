//! Invalid claims with a valid signature.

use super::{
    BASE64, Engine, NOW, Value, assert_accepted, assert_refused, claims, header, json, message, refusal_reason, signed,
    valid_token, with, without,
};

#[track_caller]
fn assert_claim_refused(claim: &str, value: Value) {
    assert_refused(&signed(&message(header(), with(claims(), claim, value))));
}

/// Returns values that are invalid for every claim.
fn invalid_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!({}),
        json!([[]]),
        json!([null]),
        json!([1]),
        json!(""),
        json!("x"),
        json!("x".repeat(2000)),
        json!(0),
        json!(-1),
        json!(-1.5),
        json!(1e300),
        json!(-1e300),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!({"taskey": "taskey"}),
    ]
}

#[test]
pub(super) fn absent_or_invalid_claim_is_refused() {
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        assert_refused(&signed(&message(header(), without(claims(), claim))));
        for value in invalid_values() {
            assert_claim_refused(claim, value);
        }
        assert_claim_refused(claim, json!([claims()[claim]]));
        assert_claim_refused(claim, json!({"value": claims()[claim]}));
    }
}

#[test]
pub(super) fn time_that_is_not_an_integer_or_not_current_is_refused() {
    for claim in ["iat", "exp"] {
        let valid = claims()[claim].as_i64().expect("a number");
        for text in [
            format!("{valid}.0"),
            format!("{valid}.5"),
            format!("{valid}e0"),
            format!("{valid}000"),
            format!("\"{valid}\""),
            format!("-{valid}"),
            format!("{valid}00000000000000000000"),
            "1e999".to_owned(),
            "NaN".to_owned(),
            "Infinity".to_owned(),
            format!("+{valid}"),
            format!("0{valid}"),
            format!("0x{valid:x}"),
        ] {
            let claims = claims().to_string().replace(&format!("\"{claim}\":{valid}"), &format!("\"{claim}\":{text}"));
            assert!(claims.contains(&text));
            assert_refused(&signed(&message(header(), claims)));
        }
    }
    for value in [json!(null), json!("1"), json!(1.5), json!([1]), json!(NOW + 6), json!(i64::MAX), json!(u64::MAX)] {
        assert_claim_refused("nbf", value);
    }
}

#[test]
pub(super) fn issuer_or_audience_that_differs_slightly_is_refused() {
    for claim in ["iss", "aud"] {
        for name in ["Taskey", "TASKEY", "taskey ", " taskey", "taskey\0", "taskey,other", "t\u{430}skey", "taske", "*"]
        {
            assert_claim_refused(claim, json!(name));
        }
    }
    assert_claim_refused("aud", json!(["taskey"]));
    assert_claim_refused("aud", json!(["other", "taskey"]));
}

#[test]
pub(super) fn id_in_another_format_is_refused() {
    for claim in ["sub", "sid", "jti"] {
        let valid = claims()[claim].as_str().expect("a string").to_owned();
        for id in [
            valid.replace('-', ""),
            format!("{{{valid}}}"),
            format!("urn:uuid:{valid}"),
            format!("{valid}\n"),
            format!(" {valid}"),
            format!("{valid}0"),
            valid[1..].to_owned(),
            valid.replace('0', "\u{ff10}"),
            "../".repeat(12),
        ] {
            assert_claim_refused(claim, json!(id));
        }
    }
}

#[test]
pub(super) fn roles_must_be_a_list_of_strings() {
    for roles in ["\"admin\"", "{\"0\":\"admin\"}", "[\"admin\",1]", "[\"admin\",null]", "[[\"admin\"]]", "[true]", "1"]
    {
        assert_claim_refused("roles", serde_json::from_str(roles).expect("JSON"));
    }
}

#[test]
pub(super) fn scope_that_is_not_a_list_of_names_is_refused() {
    for valid in ["tasks.read", "tasks.read tasks.write"] {
        assert_accepted(&signed(&message(header(), with(claims(), "scope", json!(valid)))));
    }
    for scope in [" ", "tasks.read ", " tasks.read", "tasks.read  tasks.write", "x x", "a\"b", "a\\b", "na\u{ef}ve"] {
        assert_claim_refused("scope", json!(scope));
    }
    for value in [json!(null), json!(""), json!(1), json!(true), json!({}), json!(["tasks.read"])] {
        assert_claim_refused("scope", value);
    }
}

#[test]
pub(super) fn duplicate_claim_is_refused_in_either_order() {
    let text = claims().to_string();
    let inner = &text[1..text.len() - 1];
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles", "nbf"] {
        let escaped = format!("\\u{:04x}{}", claim.as_bytes()[0], &claim[1..]);
        let valid = if claim == "nbf" { json!(NOW) } else { claims()[claim].clone() };
        let once = if claim == "nbf" { format!("{inner},\"nbf\":{NOW}") } else { inner.to_owned() };
        for name in [claim, &escaped] {
            for value in [valid.clone(), json!("other"), json!(["admin"]), json!(NOW + 300), json!(null)] {
                assert_refused(&signed(&message(header(), format!("{{{once},\"{name}\":{value}}}"))));
                assert_refused(&signed(&message(header(), format!("{{\"{name}\":{value},{once}}}"))));
            }
        }
    }
}

#[test]
pub(super) fn payload_that_is_not_a_json_object_is_refused() {
    let text = claims().to_string();
    let nested = format!("{}{}", "[".repeat(1200), "]".repeat(1200));
    for payload in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "0",
        "\"x\"",
        &nested,
        &format!("\u{feff}{text}"),
        &format!("{text}x"),
        &format!("{text}\0"),
        &text.repeat(2),
        &text.replace('"', "'"),
        &text.replace('}', ",}"),
        &format!("/**/{text}"),
    ] {
        assert_refused(&signed(&message(header(), payload)));
    }
    assert_refused(&signed(&message(header(), json!(text))));
}

/// A parser that skips unknown members might skip the check of their encoding as well.
#[test]
pub(super) fn a_payload_that_is_not_utf8_is_refused() {
    let text = claims().to_string();
    let not_utf8 = BASE64.encode([&text.as_bytes()[..text.len() - 1], b",\"x\":\"\xff\"}"].concat());
    assert_refused(&signed(&format!("{}.{not_utf8}", BASE64.encode(header().to_string()))));
}

#[test]
pub(super) fn a_list_of_claims_is_refused() {
    assert_refused(&signed(&message(header(), json!([claims()]))));
    let names = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "roles"];
    let with_nbf = with(claims(), "nbf", json!(NOW));
    let values = names.map(|name| with_nbf[name].clone());
    assert_refused(&signed(&message(header(), json!(values))));
}

#[test]
pub(super) fn nested_token_is_refused() {
    for payload in
        [json!(valid_token()), json!([valid_token()]), json!({"jwt": valid_token()}), json!({"claims": claims()})]
    {
        assert_refused(&signed(&message(header(), &payload)));
        assert_refused(&signed(&message(with(header(), "cty", json!("JWT")), &payload)));
    }
    assert_refused(&signed(&message(header(), valid_token())));
    assert_refused(&signed(&message(valid_token(), claims())));
    assert_refused(&signed(&valid_token()));
}

#[test]
pub(super) fn expiry_is_reported_only_for_otherwise_valid_tokens() {
    let expired = || with(with(claims(), "iat", json!(NOW - 400)), "exp", json!(NOW - 100));
    let token = signed(&message(header(), expired()));
    assert_eq!(refusal_reason(&token), "TOKEN_EXPIRED");
    assert_refused(&token[..token.len() - 1]);
    assert_refused(&format!("{}.", message(header(), expired())));
    assert_refused(&signed(&message(with(header(), "alg", json!("none")), expired())));
    for claim in ["iss", "aud", "sub", "sid", "jti", "roles"] {
        assert_refused(&signed(&message(header(), with(expired(), claim, json!("x")))));
    }
}

#[test]
pub(super) fn times_are_accepted_up_to_their_limits() {
    let with_times = |iat, exp| with(with(claims(), "iat", json!(iat)), "exp", json!(exp));
    let token = |claims| signed(&message(header(), claims));
    // Clocks may differ by 5 s.
    for valid in [with_times(NOW - 100, NOW - 4), with_times(NOW + 5, NOW + 305), with(claims(), "nbf", json!(NOW + 5))]
    {
        assert_accepted(&token(valid));
    }
    assert_eq!(refusal_reason(&token(with_times(NOW - 100, NOW - 5))), "TOKEN_EXPIRED");
    assert_refused(&token(with_times(NOW + 6, NOW + 306)));
    // Tokens are valid for at most 15 minutes.
    assert_accepted(&token(with_times(NOW, NOW + 900)));
    for lifetime in [901, 0, -1] {
        assert_refused(&token(with_times(NOW, NOW + lifetime)));
    }
}
