//! Claims that we would never make, under a signature that is right.

use super::{BASE64, Engine, NOW, Value, claims, good, header, json, message, refused, signed, verdict, with, without};

#[track_caller]
fn refused_claim(claim: &str, value: Value) {
    refused(&signed(&message(header(), with(claims(), claim, value))));
}

/// Values that no claim may have.
fn nonsense() -> Vec<Value> {
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
fn a_claim_that_is_absent_or_nonsense_is_refused() {
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles"] {
        refused(&signed(&message(header(), without(claims(), claim))));
        for value in nonsense() {
            refused_claim(claim, value);
        }
        refused_claim(claim, json!([claims()[claim]]));
        refused_claim(claim, json!({"value": claims()[claim]}));
    }
}

#[test]
fn a_time_that_is_no_whole_number_or_not_the_time_is_refused() {
    for claim in ["iat", "exp"] {
        let own = claims()[claim].as_i64().expect("a number");
        for text in [
            format!("{own}.0"),
            format!("{own}.5"),
            format!("{own}e0"),
            format!("{own}000"),
            format!("\"{own}\""),
            format!("-{own}"),
            format!("{own}00000000000000000000"),
            "1e999".to_owned(),
            "NaN".to_owned(),
            "Infinity".to_owned(),
            format!("+{own}"),
            format!("0{own}"),
            format!("0x{own:x}"),
        ] {
            let claims = claims().to_string().replace(&format!("\"{claim}\":{own}"), &format!("\"{claim}\":{text}"));
            assert!(claims.contains(&text));
            refused(&signed(&message(header(), claims)));
        }
    }
    for value in [json!(null), json!("1"), json!(1.5), json!([1]), json!(NOW + 6), json!(i64::MAX), json!(u64::MAX)] {
        refused_claim("nbf", value);
    }
}

#[test]
fn a_name_that_is_almost_ours_is_refused() {
    for claim in ["iss", "aud"] {
        for name in ["Taskey", "TASKEY", "taskey ", " taskey", "taskey\0", "taskey,other", "t\u{430}skey", "taske", "*"]
        {
            refused_claim(claim, json!(name));
        }
    }
    refused_claim("aud", json!(["taskey"]));
    refused_claim("aud", json!(["other", "taskey"]));
}

#[test]
fn an_id_in_another_form_is_refused() {
    for claim in ["sub", "sid", "jti"] {
        let own = claims()[claim].as_str().expect("a string").to_owned();
        for id in [
            own.replace('-', ""),
            format!("{{{own}}}"),
            format!("urn:uuid:{own}"),
            format!("{own}\n"),
            format!(" {own}"),
            format!("{own}0"),
            own[1..].to_owned(),
            own.replace('0', "\u{ff10}"),
            "../".repeat(12),
        ] {
            refused_claim(claim, json!(id));
        }
    }
}

#[test]
fn roles_are_a_list_of_strings() {
    for roles in ["\"admin\"", "{\"0\":\"admin\"}", "[\"admin\",1]", "[\"admin\",null]", "[[\"admin\"]]", "[true]", "1"]
    {
        refused_claim("roles", serde_json::from_str(roles).expect("JSON"));
    }
}

#[test]
fn a_doubled_claim_is_refused_whichever_of_both_is_right() {
    let text = claims().to_string();
    let inner = &text[1..text.len() - 1];
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles", "nbf"] {
        let escaped = format!("\\u{:04x}{}", claim.as_bytes()[0], &claim[1..]);
        let own = if claim == "nbf" { json!(NOW) } else { claims()[claim].clone() };
        let once = if claim == "nbf" { format!("{inner},\"nbf\":{NOW}") } else { inner.to_owned() };
        for name in [claim, &escaped] {
            for value in [own.clone(), json!("other"), json!(["admin"]), json!(NOW + 300), json!(null)] {
                refused(&signed(&message(header(), format!("{{{once},\"{name}\":{value}}}"))));
                refused(&signed(&message(header(), format!("{{\"{name}\":{value},{once}}}"))));
            }
        }
    }
}

#[test]
fn a_payload_that_is_no_object_of_json_is_refused() {
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
        refused(&signed(&message(header(), payload)));
    }
    refused(&signed(&message(header(), json!(text))));
}

/// A reader that skips what it does not know may not look at it either.
#[test]
fn a_payload_that_is_not_utf8_is_refused() {
    let text = claims().to_string();
    let not_utf8 = BASE64.encode([&text.as_bytes()[..text.len() - 1], b",\"x\":\"\xff\"}"].concat());
    refused(&signed(&format!("{}.{not_utf8}", BASE64.encode(header().to_string()))));
}

#[test]
fn a_list_of_claims_is_refused() {
    refused(&signed(&message(header(), json!([claims()]))));
    let names = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "roles"];
    let with_nbf = with(claims(), "nbf", json!(NOW));
    let values = names.map(|name| with_nbf[name].clone());
    refused(&signed(&message(header(), json!(values))));
}

#[test]
fn a_token_inside_of_a_token_is_none() {
    for payload in [json!(good()), json!([good()]), json!({"jwt": good()}), json!({"claims": claims()})] {
        refused(&signed(&message(header(), &payload)));
        refused(&signed(&message(with(header(), "cty", json!("JWT")), &payload)));
    }
    refused(&signed(&message(header(), good())));
    refused(&signed(&message(good(), claims())));
    refused(&signed(&good()));
}

#[test]
fn that_a_token_has_expired_is_told_only_if_nothing_else_is_wrong_with_it() {
    let expired = || with(with(claims(), "iat", json!(NOW - 400)), "exp", json!(NOW - 100));
    let token = signed(&message(header(), expired()));
    let status = verdict(&token).expect_err("refused");
    assert_eq!(service_kit::testing::refusal(&status).1, "TOKEN_EXPIRED");
    refused(&token[..token.len() - 1]);
    refused(&format!("{}.", message(header(), expired())));
    refused(&signed(&message(with(header(), "alg", json!("none")), expired())));
    for claim in ["iss", "aud", "sub", "sid", "jti", "roles"] {
        refused(&signed(&message(header(), with(expired(), claim, json!("x")))));
    }
}
