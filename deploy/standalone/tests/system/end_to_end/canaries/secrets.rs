//! Secrets and the search for them in any encoding.

use aho_corasick::AhoCorasick;
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

/// Secrets with all their encodings.
#[derive(Default)]
pub struct Secrets {
    patterns: Vec<Pattern>,
}

/// Finds secrets in texts.
pub struct Finder {
    patterns: Vec<Pattern>,
    automaton: AhoCorasick,
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
        for (encoding, bytes) in encodings {
            self.patterns.push(Pattern { secret: name.to_owned(), encoding, bytes });
        }
    }

    /// Adds a base64url text and the bytes that it encodes.
    pub fn add_encoded(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        self.add(name, &base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url"));
    }

    /// Returns what finds all of them.
    pub fn finder(self) -> Finder {
        let automaton = AhoCorasick::new(self.patterns.iter().map(|pattern| &pattern.bytes)).expect("few patterns");
        Finder { patterns: self.patterns, automaton }
    }
}

impl Finder {
    /// Returns all matches in a text.
    pub fn find(&self, text: &[u8]) -> Vec<Match> {
        let found = self.automaton.find_overlapping_iter(text);
        let matches = found.map(|found| {
            let Pattern { secret, encoding, .. } = &self.patterns[found.pattern()];
            let context = &text[found.start().saturating_sub(200)..text.len().min(found.end() + 50)];
            Match { secret: secret.clone(), encoding, context: String::from_utf8_lossy(context).into_owned() }
        });
        matches.collect()
    }
}

#[test]
fn secret_is_found_in_every_encoding() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    const SECRET: &str = "~an_unmistakable?secret>";
    let hex = |byte: u8| format!("{byte:02x}");
    let mut secrets = Secrets::default();
    secrets.add("it", SECRET.as_bytes());
    let finder = secrets.finder();
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
            assert_eq!(finder.find(content.as_bytes()).len(), 1, "{content}");
        }
        assert!(finder.find(text.replace('?', "!").as_bytes()).is_empty());
    }
}
