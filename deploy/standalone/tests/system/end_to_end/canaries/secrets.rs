//! Secrets, and the search for them in whatever they may have got into.

use std::collections::HashMap;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

/// Secrets, with what each of them looks like.
#[derive(Default)]
pub struct Secrets {
    /// By their first two bytes, so that a search looks at each place once.
    traces: HashMap<[u8; 2], Vec<Trace>>,
    /// Whether a trace begins with these two bytes.
    begins: Vec<bool>,
}

/// A secret that was found, and what is around it.
pub struct Found {
    pub secret: String,
    pub form: &'static str,
    pub around: String,
}

struct Trace {
    secret: String,
    form: &'static str,
    bytes: Vec<u8>,
}

impl Secrets {
    /// Adds a secret made of bytes, or of characters that no escape changes, in a URL no more than in JSON.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{name} is too short to be found by chance only");
        let hex = |byte: &u8| format!("{byte:02x}");
        let lower: String = secret.iter().map(hex).collect();
        let decimals = secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut forms = vec![
            ("as it is", secret.to_vec()),
            ("in upper hex", lower.to_uppercase().into_bytes()),
            ("in hex", lower.into_bytes()),
            ("as a list of numbers", decimals.into_bytes()),
        ];
        for alphabet in [STANDARD, URL_SAFE] {
            let engine = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new().with_encode_padding(false));
            for offset in 0..3 {
                // In the midst of a text the secret begins at any place of a group of three bytes, and the characters
                // at its ends depend on its neighbours.
                let encoded = engine.encode([&[0; 2][..offset], secret].concat());
                let (first, last) = ([0, 2, 3][offset], (offset + secret.len()) * 8 / 6);
                forms.push(("in base64", encoded[first..last].into()));
            }
        }
        self.begins.resize(1 << 16, false);
        for (form, bytes) in forms {
            let begin = [bytes[0], bytes[1]];
            self.begins[usize::from(u16::from_be_bytes(begin))] = true;
            self.traces.entry(begin).or_default().push(Trace { secret: name.to_owned(), form, bytes });
        }
    }

    /// Adds a text in base64url, and the bytes that it stands for.
    pub fn add_encoded(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
        self.add(name, &base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url"));
    }

    /// What is found.
    pub fn find(&self, text: &[u8]) -> Vec<Found> {
        let mut found = vec![];
        let mut last = 0_usize;
        for (end, byte) in text.iter().enumerate() {
            let pair = last << 8 | usize::from(*byte);
            last = usize::from(*byte);
            if end == 0 || !self.begins[pair] {
                continue;
            }
            let at = end - 1;
            for trace in &self.traces[&text[at..=end]] {
                if text[at..].starts_with(&trace.bytes) {
                    let around = &text[at.saturating_sub(200)..text.len().min(at + trace.bytes.len() + 50)];
                    let around = String::from_utf8_lossy(around).into_owned();
                    found.push(Found { secret: trace.secret.clone(), form: trace.form, around });
                }
            }
        }
        found
    }
}

#[test]
fn a_secret_is_found_in_every_form() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    const SECRET: &str = "~an_unmistakable?secret>";
    let hex = |byte: u8| format!("{byte:02x}");
    let mut secrets = Secrets::default();
    secrets.add("it", SECRET.as_bytes());
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{SECRET}!");
        for hidden in [
            text.clone(),
            BASE64_STANDARD.encode(&text),
            BASE64_URL_SAFE_NO_PAD.encode(&text),
            text.bytes().map(hex).collect(),
            text.bytes().map(hex).collect::<String>().to_uppercase(),
            format!("{:?}", text.as_bytes()),
        ] {
            assert_eq!(secrets.find(hidden.as_bytes()).len(), 1, "{hidden}");
        }
        assert!(secrets.find(text.replace('?', "!").as_bytes()).is_empty());
    }
}
