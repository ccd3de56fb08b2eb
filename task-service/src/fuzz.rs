//! What must hold of any input, whoever sends it. The target in `fuzz/` looks for one of which it does not hold; the test
//! tries what lies in its corpus.

use uuid::Uuid;

use crate::{model::ListQuery, page::PageTokens};

const OWNER: Uuid = Uuid::from_u128(1);

/// Takes any text for a page token: if it is one, it is the only spelling of what it says, and is good for its owner and
/// its query alone. Makes one of the first 16 bytes too, since no search would ever find one.
pub fn page_token(data: &[u8]) {
    let tokens = PageTokens::new(&[7; 32]);
    if let Ok(text) = std::str::from_utf8(data) {
        judge(&tokens, text);
    }
    if let Some((cursor, rest)) = data.split_first_chunk() {
        let cursor = Uuid::from_bytes(*cursor);
        let text = tokens.seal(OWNER, &query("", false), cursor);
        assert_eq!(tokens.open(OWNER, &query(&text, false)).ok(), Some(Some(cursor)));
        judge(&tokens, &text);
        let longer = text + &String::from_utf8_lossy(rest);
        assert_eq!(tokens.open(OWNER, &query(&longer, false)).is_ok(), rest.is_empty());
    }
}

fn judge(tokens: &PageTokens, text: &str) {
    let Ok(cursor) = tokens.open(OWNER, &query(text, false)) else { return };
    let Some(cursor) = cursor else { return assert_eq!(text, "") };
    assert_eq!(tokens.seal(OWNER, &query("", false), cursor), text);
    assert!(tokens.open(OWNER, &query(text, true)).is_err());
    assert!(tokens.open(Uuid::from_u128(2), &query(text, false)).is_err());
    assert!(PageTokens::new(&[8; 32]).open(OWNER, &query(text, false)).is_err());
}

fn query(page_token: &str, show_deleted: bool) -> ListQuery {
    ListQuery { page_size: 50, page_token: page_token.to_owned(), show_deleted }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::feed;

    #[test]
    fn the_corpus_of_page_tokens_holds() {
        feed(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/page_token"), super::page_token);
    }
}
