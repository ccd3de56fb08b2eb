//! What must hold for any input. The target in `fuzz/` looks for one of which it does not hold; the test
//! tries what lies in its corpus.

use service_kit::ops::secret_file;
use uuid::Uuid;

use crate::model::refresh_token::{RefreshKey, RefreshToken};

/// Takes any text for a refresh token: if it is one, it is the only spelling of what it says. Makes one of the first 24
/// bytes too, which is one for its own key alone.
pub fn refresh_token(data: &[u8]) {
    let [key, other] = [7, 8].map(|byte| RefreshKey::new(&secret_file::Key::new([byte; 32])));
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(token) = key.open(text)
    {
        assert_eq!(key.issue(token), text);
        assert_eq!(other.open(text), None);
    }
    if let Some((session_id, rest)) = data.split_first_chunk()
        && let Some((generation, rest)) = rest.split_first_chunk()
    {
        let generation = i64::from_be_bytes(*generation);
        let token = RefreshToken { session_id: Uuid::from_bytes(*session_id), generation };
        let text = key.issue(token);
        assert_eq!(key.open(&text), Some(token));
        assert_eq!(other.open(&text), None);
        let longer = text + &String::from_utf8_lossy(rest);
        assert_eq!(key.open(&longer).is_some(), rest.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::run_corpus;

    #[test]
    fn the_corpus_of_refresh_tokens_holds() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/refresh_token"), super::refresh_token);
    }
}
