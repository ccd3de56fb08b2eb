//! Text that is not a well-formed token.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE};
use service_kit::auth::token::MAX_TOKEN_BYTES;

use super::{
    BASE64, Engine, assert_accepted, assert_refused, claims, header, json, message, signed, valid_token, with,
};

#[test]
pub(super) fn wrong_number_of_parts_is_refused() {
    let valid = valid_token();
    let parts: Vec<_> = valid.split('.').collect();
    for count in (0..=12).filter(|count| *count != 3) {
        let token = parts.iter().cycle().take(count).copied().collect::<Vec<_>>().join(".");
        assert_refused(&token);
        if count != 2 {
            assert_refused(&signed(&token));
        }
        assert_refused(&".".repeat(count));
    }
    // The compact serialization of an encrypted token (JWE), built from the parts of a valid token.
    let encrypted = BASE64.encode(json!({"alg": "dir", "enc": "A256GCM", "kid": "shared"}).to_string());
    for head in [&encrypted, parts[0]] {
        assert_refused(&format!("{head}..{}.{}.{}", BASE64.encode([0; 12]), parts[1], BASE64.encode([0; 16])));
        assert_refused(&format!("{head}.{}.{}.{}.{}", parts[1], parts[2], parts[1], parts[2]));
    }
    for token in [format!("{valid}."), format!(".{valid}"), format!("{valid}.{valid}"), valid.replace('.', "..")] {
        assert_refused(&token);
    }
    assert_refused(&format!("{}.{}.{}", parts[1], parts[0], parts[2]));
    assert_refused(&format!("{}.{}.{}", parts[0], parts[2], parts[1]));
}

#[test]
pub(super) fn json_serialization_is_refused() {
    let valid = valid_token();
    let parts: Vec<_> = valid.split('.').collect();
    let (protected, payload, signature) = (parts[0], parts[1], parts[2]);
    let flattened = json!({"protected": protected, "payload": payload, "signature": signature});
    let signatures = json!([{"protected": protected, "signature": signature}]);
    for json in [
        json!({"payload": payload, "header": header(), "signature": signature}),
        json!({"payload": payload, "signatures": signatures}),
        json!({"payload": payload, "signatures": []}),
        json!([flattened]),
        json!(valid),
        flattened,
    ] {
        let text = json.to_string();
        assert_refused(&text);
        assert_refused(&BASE64.encode(&text));
        assert_refused(&signed(&text));
        // With a valid token after JSON that a lenient parser might skip.
        assert_refused(&format!("{text}.{valid}"));
    }
}

#[test]
pub(super) fn base64_is_decoded_strictly() {
    // Their base64url contains characters in which the alphabets differ, and has lengths that need padding.
    let claims = with(claims(), "x", json!("~~~???>>>~~?"));
    let parts = [BASE64.encode(header().to_string() + " "), BASE64.encode(claims.to_string() + " ")];
    assert_accepted(&signed(&parts.join(".")));
    assert!(parts[1].contains(['-', '_']), "{}", parts[1]);
    for (index, part) in parts.iter().enumerate() {
        let bytes = BASE64.decode(part).expect("base64url");
        let middle = part.len() / 2;
        let mut encodings = vec![
            BASE64_URL_SAFE.encode(&bytes),
            BASE64_STANDARD.encode(&bytes),
            BASE64_STANDARD_NO_PAD.encode(&bytes),
            format!("{part}="),
            format!("{part}=="),
            format!("{part}===="),
            format!("={part}"),
            format!("{part}A"),
            format!("{part}\n"),
            format!("\n{part}"),
            format!("{part} "),
            format!("\t{part}"),
            format!("{part}\0"),
            format!("{part}%3D"),
            format!("\u{feff}{part}"),
        ];
        encodings.extend(
            ["\n", "\r\n", " ", "=", "\0", "~", "\u{e4}", "+/"]
                .map(|inside| format!("{}{inside}{}", &part[..middle], &part[middle..])),
        );
        for encoding in encodings.into_iter().filter(|encoding| encoding != part) {
            let mut parts = parts.clone();
            parts[index] = encoding;
            // The signature is valid, because it covers the encoded text.
            assert_refused(&signed(&parts.join(".")));
        }
    }
}

#[test]
pub(super) fn unused_base64_bits_must_be_zero() {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let equivalent_encodings = |part: &str| {
        let last = part.chars().last().expect("not empty");
        let index = ALPHABET.find(last).expect("base64url");
        // A remainder of one byte leaves four unused bits, two bytes leave two bits, and no remainder leaves none.
        let count = [1, 1, 16, 4][part.len() % 4];
        let first = index - index % count;
        let others = ALPHABET[first..first + count].chars().filter(move |other| *other != last);
        others.map(|other| format!("{}{other}", &part[..part.len() - 1])).collect::<Vec<_>>()
    };
    for padding in ["", " ", "  "] {
        let header = BASE64.encode(header().to_string() + padding);
        let claims = BASE64.encode(claims().to_string() + padding);
        let token = signed(&format!("{header}.{claims}"));
        assert_accepted(&token);
        for other in equivalent_encodings(&header) {
            assert_refused(&signed(&format!("{other}.{claims}")));
        }
        for other in equivalent_encodings(&claims) {
            assert_refused(&signed(&format!("{header}.{other}")));
        }
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        for other in equivalent_encodings(signature) {
            assert_refused(&format!("{message}.{other}"));
        }
    }
}

#[test]
pub(super) fn surrounding_characters_are_not_ignored() {
    let valid = valid_token();
    for around in [" ", "\t", "\n", "\r\n", "\0", "\"", "'", ",", ";", "=", "Bearer ", "\u{feff}", "\u{a0}", "%20"] {
        assert_refused(&format!("{around}{valid}"));
        assert_refused(&format!("{valid}{around}"));
        assert_refused(&valid.replace('.', &format!("{around}.")));
        assert_refused(&valid.replace('.', &format!(".{around}")));
    }
    for dot in ["\u{2e}\u{2e}", "\u{ff0e}", "\u{b7}", "%2E", ":", ","] {
        assert_refused(&valid.replace('.', dot));
    }
}

/// Returns a token of this length that is valid if the length is allowed.
fn token_with_length(length: usize) -> String {
    let with_filling = |filling: usize| {
        // Spaces after the header give the lengths that the filling alone skips.
        let tokens = (0..3).map(|spaces| {
            let header = header().to_string() + &" ".repeat(spaces);
            signed(&message(header, with(claims(), "x", json!("x".repeat(filling)))))
        });
        tokens.collect::<Vec<_>>()
    };
    let estimate = (length - valid_token().len()) * 3 / 4;
    let mut tokens = (estimate.saturating_sub(20)..estimate + 20).flat_map(with_filling);
    tokens.find(|token| token.len() == length).expect("some filling gives this length")
}

#[test]
pub(super) fn otherwise_valid_token_that_is_too_long_is_refused() {
    assert_accepted(&token_with_length(MAX_TOKEN_BYTES));
    for length in [MAX_TOKEN_BYTES + 1, 8 * 1024, 16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
        assert_refused(&token_with_length(length));
    }
}

#[test]
pub(super) fn sixteen_kibibytes_of_anything_are_refused() {
    const LENGTH: usize = 16 * 1024;
    let valid = valid_token();
    let (message, signature) = valid.rsplit_once('.').expect("three parts");
    let (head, payload) = message.split_once('.').expect("two parts");
    let filling = "A".repeat(LENGTH);
    for token in [
        filling.clone(),
        ".".repeat(LENGTH),
        "=".repeat(LENGTH),
        "\u{e4}".repeat(LENGTH / 2),
        "a.".repeat(LENGTH / 2),
        format!("{filling}.{payload}.{signature}"),
        format!("{head}.{filling}.{signature}"),
        format!("{head}.{payload}.{filling}"),
        format!("{valid}{filling}"),
        format!("{filling}{valid}"),
        format!("{valid}{}", " ".repeat(LENGTH)),
    ] {
        assert_refused(&token);
    }
}
