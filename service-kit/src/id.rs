//! Resource ids: version 7 UUIDs, which sort by creation time.

use uuid::Uuid;

/// Parses a hyphenated UUID. [`Uuid::try_parse`] also accepts braces, URNs and plain digits, which would give one
/// resource several names.
#[must_use]
pub fn parse(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_hyphenated_uuids_are_accepted() {
        assert!(parse("0198c0de-0000-7000-8000-000000000000").is_some());
        assert!(parse("0198C0DE-0000-7000-8000-00000000000A").is_some());
        for invalid in [
            "",
            "1",
            "0198c0de000070008000000000000000",
            "{0198c0de-0000-7000-8000-000000000000}",
            "urn:uuid:0198c0de-0000-7000-8000-000000000000",
            "0198c0de-0000-7000-8000-00000000000g",
            " 0198c0de-0000-7000-8000-000000000000",
            "0198c0de-0000-7000-8000-000000000000\0",
        ] {
            assert!(parse(invalid).is_none(), "{invalid:?}");
        }
    }
}
