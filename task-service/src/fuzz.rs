//! What must hold for any input. The targets in `fuzz/` look for one of which it does not hold; the
//! tests try what lies in their corpora.

use service_kit::page::PageTokens;
use uuid::Uuid;

use crate::model::filter::Filter;

const OWNER: Uuid = Uuid::from_u128(1);

/// What must not change between pages.
const QUERY: &[u8] = &[0];

/// Takes any text for a page token: if it is one, it is the only spelling of what it says, and is good for its owner
/// and its query alone. Makes one of the first 16 bytes too, since no search would ever find one.
pub fn page_token(data: &[u8]) {
    let tokens = PageTokens::new(&[7; 32]);
    if let Ok(text) = std::str::from_utf8(data) {
        judge(&tokens, text);
    }
    if let Some((cursor, rest)) = data.split_first_chunk() {
        let cursor: &[u8; 16] = cursor;
        let text = tokens.seal(OWNER, QUERY, cursor);
        assert_eq!(tokens.open(OWNER, QUERY, &text).ok(), Some(Some(cursor.to_vec())));
        assert_eq!(text.len(), PageTokens::length(cursor));
        judge(&tokens, &text);
        let longer = text + &String::from_utf8_lossy(rest);
        assert_eq!(tokens.open(OWNER, QUERY, &longer).is_ok(), rest.is_empty());
    }
}

fn judge(tokens: &PageTokens, text: &str) {
    let Ok(cursor) = tokens.open(OWNER, QUERY, text) else { return };
    let Some(cursor) = cursor else { return assert_eq!(text, "") };
    assert_eq!(tokens.seal(OWNER, QUERY, &cursor), text);
    assert!(tokens.open(OWNER, &[1], text).is_err());
    assert!(tokens.open(Uuid::from_u128(2), QUERY, text).is_err());
    assert!(PageTokens::new(&[8; 32]).open(OWNER, QUERY, text).is_err());
}

/// Takes any text for a filter: if it is one, its canonical form says the same, and is its own canonical form. If it is
/// none, that is said of a place in it or at its end, and without quoting it.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Filter::parse(text) {
        Ok(filter) => {
            let canonical = filter.to_string();
            let again = Filter::parse_any(&canonical);
            assert_eq!(again.as_ref(), Ok(&filter), "{canonical}");
            assert_eq!(again.map(|again| again.to_string()), Ok(canonical));
        }
        Err(fault) => {
            assert!((1..=text.chars().count() + 1).contains(&fault.column), "{fault}");
            assert!(fault.message.len() < 200, "{fault}");
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::feed;

    #[test]
    fn the_corpus_of_page_tokens_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/page_token"), super::page_token);
    }

    #[test]
    fn the_corpus_of_filters_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/filter"), super::filter);
    }
}
