//! Properties that hold for any input. The target in `fuzz/` searches for a counterexample; the test runs its corpus.

use service_kit::ops::secret_file;
use uuid::Uuid;

use crate::model::refresh_token::{RefreshKey, RefreshToken};

/// Checks that a valid refresh token is the only encoding of its content, and that only its own key accepts it. Parses
/// the input as a token, and also issues a token from the first 24 bytes.
pub fn refresh_token(data: &[u8]) {
    let [key, other_key] = [7, 8].map(|byte| RefreshKey::new(&secret_file::Key::new([byte; 32])));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(token) = key.open(text)
    {
        assert_eq!(key.issue(token), text);
        assert_eq!(other_key.open(text), None);
    }
    if let Some((session_id, rest)) = data.split_first_chunk()
        && let Some((generation, rest)) = rest.split_first_chunk()
    {
        let generation = i64::from_be_bytes(*generation);
        let token = RefreshToken { session_id: Uuid::from_bytes(*session_id), generation };
        let text = key.issue(token);
        assert_eq!(key.open(&text), Some(token));
        assert_eq!(other_key.open(&text), None);
        let extended = text + &String::from_utf8_lossy(rest);
        assert_eq!(key.open(&extended).is_some(), rest.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::run_corpus;

    #[test]
    fn refresh_token_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/refresh_token"), super::refresh_token);
    }
}
