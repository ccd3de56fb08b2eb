//! When two texts are the same but for upper and lower case.

use unicode_normalization::UnicodeNormalization;

/// Makes texts equal that differ in case alone, or in how Unicode spells them (NFKC). Both what is searched and what is
/// searched for must have gone through this; a second time changes nothing.
///
/// Each character counts for itself, since a part of a word must be found in it: lower-casing a whole text would make
/// one thing of a sigma at the end of a word and another of one within. That it goes to upper case in between makes one
/// of what has a common upper case: σ and ς, ß and ss, i and the dotless ı of Turkish.
pub(crate) fn fold(text: &str) -> String {
    let lower = text.nfkc().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

/// Title and notes as they are searched: the first line is the title's.
pub(crate) fn searched(title: &str, notes: &str) -> String {
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
