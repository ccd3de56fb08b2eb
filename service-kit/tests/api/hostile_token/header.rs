//! Headers with unexpected members or values.

use std::{io::ErrorKind, net::TcpListener};

use aws_lc_rs::{hmac, signature::KeyPair};

use super::{
    BASE64, Engine, Value, assert_refused, claims, ed25519, header, json, message, pair_header, pair_signed,
    public_key, signed, signed_by, with, with_signature, without,
};

/// Asserts that a header with this member is refused for both keys, despite a valid signature.
#[track_caller]
fn assert_member_refused(member: &str, value: &Value) {
    assert_refused(&signed(&message(with(header(), member, value.clone()), claims())));
    assert_refused(&pair_signed(&message(with(pair_header(), member, value.clone()), claims())));
}

#[test]
fn header_that_contains_or_references_a_key_is_refused_and_nothing_is_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("changed");
    assert_keys_refused(&format!("http://{}/keys.json", listener.local_addr().expect("an address")));
    assert_eq!(listener.accept().expect_err("nothing connected").kind(), ErrorKind::WouldBlock);
}

/// Asserts that a header which contains a key, or references one at this URL, is refused.
pub(super) fn assert_keys_refused(url: &str) {
    let attacker_key = ed25519(&[1; 32]);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "pair", "x": BASE64.encode(attacker_key.public_key())});
    let values = [
        ("jwk", jwk.clone()),
        ("jwk", json!({"kty": "oct", "k": BASE64.encode("a secret chosen by the attacker.")})),
        ("jwks", json!({"keys": [jwk]})),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([BASE64.encode("a certificate")])),
        ("x5t", json!(BASE64.encode([0; 20]))),
        ("x5t#S256", json!(BASE64.encode([0; 32]))),
        ("iss", json!(url)),
    ];
    for (member, value) in &values {
        assert_member_refused(member, value);
        assert_member_refused(member, &json!(null));
        let message = message(with(pair_header(), member, value.clone()), claims());
        assert_refused(&with_signature(&message, attacker_key.sign(message.as_bytes()).as_ref()));
    }
    assert_member_refused("kid", &json!(url));
    assert_refused(&signed(&message(header(), with(claims(), "iss", json!(url)))));
}

#[test]
pub(super) fn hostile_kid_is_refused() {
    for kid in [
        "",
        " ",
        "shared ",
        " shared",
        "Shared",
        "SHARED",
        "shared\0",
        "shared\0pair",
        "sha\u{200b}red",
        "\u{455}hared",
        "0",
        "-1",
        "*",
        "%",
        "../../../../../../dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "file:///dev/null",
        "keys.json",
        "' or '1'='1",
        "x' union select 'key' --",
        "$(id)",
        "|/bin/true",
        "{{7*7}}",
        "${jndi:ldap://127.0.0.1/x}",
        "__proto__",
        &"k".repeat(2000),
    ] {
        assert_member_refused("kid", &json!(kid));
        // Secrets that might result from reading the file or row that the `kid` names.
        for secret in [&b""[..], b"\0", b"2\n", b"key"] {
            assert_refused(&signed_by(
                hmac::HMAC_SHA256,
                secret,
                &message(with(header(), "kid", json!(kid)), claims()),
            ));
        }
    }
    for kid in [json!(0), json!(true), json!(["shared"]), json!({"shared": "shared"}), json!(null)] {
        assert_member_refused("kid", &kid);
    }
}

#[test]
pub(super) fn members_that_change_the_signed_data_or_algorithm_are_refused() {
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("crit", json!(null)),
        ("b64", json!(true)),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("epk", json!({})),
        ("p2c", json!(2_000_000_000)),
        ("p2s", json!("salt")),
        ("iv", json!("")),
        ("tag", json!("")),
        ("apu", json!("")),
        ("nonce", json!("1")),
        ("url", json!("https://example.com")),
        ("exp", json!(1)),
        ("", json!("")),
        ("ALG", json!("none")),
        ("anything", json!(1)),
    ] {
        assert_member_refused(member, &value);
    }
    // An unencoded payload (RFC 7797).
    let header = json!({"alg": "HS256", "kid": "shared", "typ": "at+jwt", "b64": false, "crit": ["b64"]});
    assert_refused(&signed(&format!("{}.{}", BASE64.encode(header.to_string()), claims())));
}

#[test]
pub(super) fn other_token_type_is_refused() {
    for typ in [
        "JWT",
        "jwt",
        "",
        "AT+JWT",
        "At+Jwt",
        "application/at+jwt",
        "at+jwt ",
        " at+jwt",
        "at+jwt\0",
        "at+jwt;v=1",
        "id_token",
        "refresh+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "entity-statement+jwt",
        "JOSE",
        "JOSE+JSON",
    ] {
        assert_member_refused("typ", &json!(typ));
    }
    for typ in [json!(null), json!(1), json!(["at+jwt"]), json!({"at+jwt": 1})] {
        assert_member_refused("typ", &typ);
    }
}

#[test]
pub(super) fn absent_or_mistyped_member_is_refused() {
    for member in ["alg", "kid", "typ"] {
        assert_refused(&signed(&message(without(header(), member), claims())));
        assert_refused(&pair_signed(&message(without(pair_header(), member), claims())));
        let valid = header()[member].clone();
        for value in [json!(null), json!(true), json!(0), json!(-1), json!(1.5), json!([valid]), json!({"x": valid})] {
            assert_member_refused(member, &value);
        }
        assert_member_refused(member, &json!("x".repeat(2500)));
    }
}

#[test]
pub(super) fn duplicate_member_is_refused_in_either_order() {
    for (member, other) in [("alg", "none"), ("kid", "pair"), ("typ", "JWT")] {
        let escaped = format!("\\u{:04x}{}", member.as_bytes()[0], &member[1..]);
        let valid = header()[member].as_str().expect("a string").to_owned();
        for name in [member, &escaped] {
            for value in [&valid[..], other] {
                let text = header().to_string();
                let inner = &text[1..text.len() - 1];
                assert_refused(&signed(&message(format!("{{{inner},\"{name}\":\"{value}\"}}"), claims())));
                assert_refused(&signed(&message(format!("{{\"{name}\":\"{value}\",{inner}}}"), claims())));
            }
        }
    }
}

#[test]
pub(super) fn header_that_is_not_a_json_object_is_refused() {
    let text = header().to_string();
    let nested = format!("{}{}", "[".repeat(1200), "]".repeat(1200));
    for header in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "0",
        "\"x\"",
        &format!("\u{feff}{text}"),
        &format!("{text}x"),
        &text.repeat(2),
        &nested,
    ] {
        assert_refused(&signed(&message(header, claims())));
    }
    assert_refused(&signed(&message(json!(header().to_string()), claims())));
    let not_utf8 = BASE64.encode([text.as_bytes(), b"\xff"].concat());
    assert_refused(&signed(&format!("{not_utf8}.{}", BASE64.encode(claims().to_string()))));
    assert_refused(&signed(&message(BASE64.encode(public_key()), claims())));
}

#[test]
pub(super) fn a_list_of_members_is_refused() {
    assert_refused(&signed(&message(json!([header()]), claims())));
    assert_refused(&signed(&message(json!(["HS256", "shared", "at+jwt"]), claims())));
}
