//! Case-insensitive search.

use unicode_normalization::UnicodeNormalization;

/// Folds a text, so that texts are equal that differ only in case or in how Unicode encodes them (NFKC). Both the texts
/// and the words that are searched in them must be folded. Folding again changes nothing.
///
/// Characters are folded one by one, because a part of a word must be found in it: lower-casing a whole text would
/// distinguish a sigma at the end of a word from one within. The upper case in between makes characters equal that share
/// one: σ and ς, ß and ss, i and the dotless ı of Turkish.
pub(crate) fn fold(text: &str) -> String {
    let lower = text.nfkc().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// Returns the text that is searched: the folded title in the first line, and the folded notes after it.
pub(crate) fn search_text(title: &str, notes: &str) -> String {
    [fold(title), fold(notes)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn case_and_spelling_do_not_matter() {
        for (one, other) in [
            ("Milk", "mILK"),
            ("Äpfel", "a\u{308}pfel"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("STRASSE", "straße"),
            ("STRAẞE", "straße"),
            ("ISPARTA", "ısparta"),
            ("İZMİR", "i\u{307}zmi\u{307}r"),
            ("ﬁne ①", "FINE 1"),
            ("ＷＩＤＥ", "wide"),
            ("\u{212b}ngstro\u{308}m", "ÅNGSTRÖM"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
        for (one, other) in [("a", "ä"), ("o", "ø"), ("i", "j"), ("", " "), ("a b", "a\u{200b}b")] {
            assert_ne!(fold(one), fold(other));
        }
    }

    #[test]
    fn folding_again_changes_nothing() {
        // Beyond these nothing has a case.
        for c in '\0'..='\u{323af}' {
            for text in [format!("A{c}"), format!("{c}\u{345}\u{308}")] {
                let folded = fold(&text);
                assert_eq!(fold(&folded), folded, "{text:?}");
            }
        }
    }
}
