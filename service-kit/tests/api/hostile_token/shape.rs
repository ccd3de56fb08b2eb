//! What does not even look like a token.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE};
use service_kit::auth::token::MAX_TOKEN_BYTES;

use super::{BASE64, Engine, accepted, claims, good, header, json, message, refused, signed, with};

#[test]
fn another_number_of_parts_is_refused() {
    let good = good();
    let parts: Vec<_> = good.split('.').collect();
    for count in (0..=12).filter(|count| *count != 3) {
        let token = parts.iter().cycle().take(count).copied().collect::<Vec<_>>().join(".");
        refused(&token);
        if count != 2 {
            refused(&signed(&token));
        }
        refused(&".".repeat(count));
    }
    // The compact form of an encrypted token, with what would be right in three parts.
    let encrypted = BASE64.encode(json!({"alg": "dir", "enc": "A256GCM", "kid": "shared"}).to_string());
    for head in [&encrypted, parts[0]] {
        refused(&format!("{head}..{}.{}.{}", BASE64.encode([0; 12]), parts[1], BASE64.encode([0; 16])));
        refused(&format!("{head}.{}.{}.{}.{}", parts[1], parts[2], parts[1], parts[2]));
    }
    for token in [format!("{good}."), format!(".{good}"), format!("{good}.{good}"), good.replace('.', "..")] {
        refused(&token);
    }
    refused(&format!("{}.{}.{}", parts[1], parts[0], parts[2]));
    refused(&format!("{}.{}.{}", parts[0], parts[2], parts[1]));
}

#[test]
fn the_json_serialization_is_refused() {
    let good = good();
    let parts: Vec<_> = good.split('.').collect();
    let (protected, payload, signature) = (parts[0], parts[1], parts[2]);
    let flattened = json!({"protected": protected, "payload": payload, "signature": signature});
    let signatures = json!([{"protected": protected, "signature": signature}]);
    for json in [
        json!({"payload": payload, "header": header(), "signature": signature}),
        json!({"payload": payload, "signatures": signatures}),
        json!({"payload": payload, "signatures": []}),
        json!([flattened]),
        json!(good),
        flattened,
    ] {
        let text = json.to_string();
        refused(&text);
        refused(&BASE64.encode(&text));
        refused(&signed(&text));
        // With the good parts after a brace that a lenient reader might skip.
        refused(&format!("{text}.{good}"));
    }
}

#[test]
fn base64_is_not_read_leniently() {
    // Their base64 has characters in which the two alphabets differ, and lengths that would be padded.
    let claims = with(claims(), "x", json!("~~~???>>>~~?"));
    let parts = [BASE64.encode(header().to_string() + " "), BASE64.encode(claims.to_string() + " ")];
    accepted(&signed(&parts.join(".")));
    assert!(parts[1].contains(['-', '_']), "{}", parts[1]);
    for (index, part) in parts.iter().enumerate() {
        let bytes = BASE64.decode(part).expect("base64url");
        let middle = part.len() / 2;
        let mut spellings = vec![
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
        spellings.extend(
            ["\n", "\r\n", " ", "=", "\0", "~", "\u{e4}", "+/"]
                .map(|inside| format!("{}{inside}{}", &part[..middle], &part[middle..])),
        );
        for spelling in spellings.into_iter().filter(|spelling| spelling != part) {
            let mut parts = parts.clone();
            parts[index] = spelling;
            // What is signed is the text as it stands, so the signature is right.
            refused(&signed(&parts.join(".")));
        }
    }
}

#[test]
fn bits_that_mean_nothing_are_zero() {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let same_bytes = |part: &str| {
        let last = part.chars().last().expect("not empty");
        let at = ALPHABET.find(last).expect("base64url");
        // One byte over leaves four bits that mean nothing, two leave two, three leave none.
        let count = [1, 1, 16, 4][part.len() % 4];
        let first = at - at % count;
        let others = ALPHABET[first..first + count].chars().filter(move |other| *other != last);
        others.map(|other| format!("{}{other}", &part[..part.len() - 1])).collect::<Vec<_>>()
    };
    for padding in ["", " ", "  "] {
        let header = BASE64.encode(header().to_string() + padding);
        let claims = BASE64.encode(claims().to_string() + padding);
        let token = signed(&format!("{header}.{claims}"));
        accepted(&token);
        for other in same_bytes(&header) {
            refused(&signed(&format!("{other}.{claims}")));
        }
        for other in same_bytes(&claims) {
            refused(&signed(&format!("{header}.{other}")));
        }
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        for other in same_bytes(signature) {
            refused(&format!("{message}.{other}"));
        }
    }
}

#[test]
fn what_stands_around_a_token_is_not_ignored() {
    let good = good();
    for around in [" ", "\t", "\n", "\r\n", "\0", "\"", "'", ",", ";", "=", "Bearer ", "\u{feff}", "\u{a0}", "%20"] {
        refused(&format!("{around}{good}"));
        refused(&format!("{good}{around}"));
        refused(&good.replace('.', &format!("{around}.")));
        refused(&good.replace('.', &format!(".{around}")));
    }
    for dot in ["\u{2e}\u{2e}", "\u{ff0e}", "\u{b7}", "%2E", ":", ","] {
        refused(&good.replace('.', dot));
    }
}

/// A good token, but of this length.
fn of_length(length: usize) -> String {
    let filled = |filling: usize| {
        // Spaces after the header make up for what base64 cannot hit.
        let tokens = (0..3).map(|spaces| {
            let header = header().to_string() + &" ".repeat(spaces);
            signed(&message(header, with(claims(), "x", json!("x".repeat(filling)))))
        });
        tokens.collect::<Vec<_>>()
    };
    let estimate = (length - good().len()) * 3 / 4;
    let mut tokens = (estimate.saturating_sub(20)..estimate + 20).flat_map(filled);
    tokens.find(|token| token.len() == length).expect("some filling gives this length")
}

#[test]
fn a_token_that_is_too_long_is_refused_although_all_else_is_right() {
    accepted(&of_length(MAX_TOKEN_BYTES));
    for length in [MAX_TOKEN_BYTES + 1, 8 * 1024, 16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
        refused(&of_length(length));
    }
}

#[test]
fn sixteen_kibibytes_of_anything_are_refused() {
    const LENGTH: usize = 16 * 1024;
    let good = good();
    let (message, signature) = good.rsplit_once('.').expect("three parts");
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
        format!("{good}{filling}"),
        format!("{filling}{good}"),
        format!("{good}{}", " ".repeat(LENGTH)),
    ] {
        refused(&token);
    }
}
