//! Secrets and the search for them in any encoding.

use std::collections::HashMap;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

/// Secrets with all their encodings.
#[derive(Default)]
pub struct Secrets {
    /// Patterns by their first two bytes, so that a search visits each byte once.
    patterns: HashMap<[u8; 2], Vec<Pattern>>,
    /// Whether a pattern begins with these two bytes, by their big-endian number.
    is_prefix: Vec<bool>,
}

/// A secret that was found, and its context.
pub struct Match {
    pub secret: String,
    pub encoding: &'static str,
    pub context: String,
}

struct Pattern {
    secret: String,
    encoding: &'static str,
    bytes: Vec<u8>,
}

impl Secrets {
    /// Adds a secret. A text must consist of characters that neither URLs nor JSON escape.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{name} is too short to be found by chance only");
        let hex = |byte: &u8| format!("{byte:02x}");
        let lower: String = secret.iter().map(hex).collect();
        let decimals = secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut encodings = vec![
            ("as it is", secret.to_vec()),
            ("in upper hex", lower.to_uppercase().into_bytes()),
            ("in hex", lower.into_bytes()),
            ("as a list of numbers", decimals.into_bytes()),
        ];
        for alphabet in [STANDARD, URL_SAFE] {
            let engine = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new().with_encode_padding(false));
            for offset in 0..3 {
                // Within a text, the secret can begin at any offset in a group of three bytes, and the characters at
                // its ends depend on the neighbouring bytes.
                let encoded = engine.encode([&[0; 2][..offset], secret].concat());
                let (first, last) = ([0, 2, 3][offset], (offset + secret.len()) * 8 / 6);
                encodings.push(("in base64", encoded[first..last].into()));
            }
        }
        self.is_prefix.resize(1 << 16, false);
        for (encoding, bytes) in encodings {
            let prefix = [bytes[0], bytes[1]];
            self.is_prefix[usize::from(u16::from_be_bytes(prefix))] = true;
            self.patterns.entry(prefix).or_default().push(Pattern { secret: name.to_owned(), encoding, bytes });
        }
    }

    /// Adds a base64url text and the bytes that it encodes.
    pub fn add_encoded(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        self.add(name, &base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url"));
    }

    /// Returns all matches in a text.
    pub fn find(&self, text: &[u8]) -> Vec<Match> {
        let mut matches = vec![];
        let mut last = 0_usize;
        for (end, byte) in text.iter().enumerate() {
            let pair = last << 8 | usize::from(*byte);
            last = usize::from(*byte);
            if end == 0 || !self.is_prefix[pair] {
                continue;
            }
            let at = end - 1;
            for pattern in &self.patterns[&text[at..=end]] {
                if text[at..].starts_with(&pattern.bytes) {
                    let context = &text[at.saturating_sub(200)..text.len().min(at + pattern.bytes.len() + 50)];
                    let context = String::from_utf8_lossy(context).into_owned();
                    matches.push(Match { secret: pattern.secret.clone(), encoding: pattern.encoding, context });
                }
            }
        }
        matches
    }
}

#[test]
fn secret_is_found_in_every_encoding() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    const SECRET: &str = "~an_unmistakable?secret>";
    let hex = |byte: u8| format!("{byte:02x}");
    let mut secrets = Secrets::default();
    secrets.add("it", SECRET.as_bytes());
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{SECRET}!");
        for content in [
            text.clone(),
            BASE64_STANDARD.encode(&text),
            BASE64_URL_SAFE_NO_PAD.encode(&text),
            text.bytes().map(hex).collect(),
            text.bytes().map(hex).collect::<String>().to_uppercase(),
            format!("{:?}", text.as_bytes()),
        ] {
            assert_eq!(secrets.find(content.as_bytes()).len(), 1, "{content}");
        }
        assert!(secrets.find(text.replace('?', "!").as_bytes()).is_empty());
    }
}
