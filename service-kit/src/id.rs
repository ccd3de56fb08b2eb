//! The ids of everything: UUIDs of version 7, whose order is the order in which they were made.

use uuid::Uuid;

/// Reads an id in its usual form. The parser of the library also takes braces, a URN or bare digits; then one thing
/// would have several names.
#[must_use]
pub fn parse(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_usual_form_is_an_id() {
        assert!(parse("0198c0de-0000-7000-8000-000000000000").is_some());
        assert!(parse("0198C0DE-0000-7000-8000-00000000000A").is_some());
        for wrong in [
            "",
            "1",
            "0198c0de000070008000000000000000",
            "{0198c0de-0000-7000-8000-000000000000}",
            "urn:uuid:0198c0de-0000-7000-8000-000000000000",
            "0198c0de-0000-7000-8000-00000000000g",
            " 0198c0de-0000-7000-8000-000000000000",
            "0198c0de-0000-7000-8000-000000000000\0",
        ] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
