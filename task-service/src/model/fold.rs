//! Case-insensitive search.

use unicode_normalization::UnicodeNormalization;

/// The dot above, which only the lower case of İ has after an i.
const DOT_ABOVE: char = '\u{307}';

/// Folds a text, so that texts that differ only in case or in their Unicode encoding (NFKC) become equal. Both the text
/// and the words to search for must be folded. Folding is idempotent.
///
/// Characters are folded one by one, so that a search finds parts of words: lower-casing a whole text would
/// distinguish a sigma at the end of a word from other sigmas. Upper-casing in between makes characters with the same
/// upper case equal: σ and ς, ß and ss, i and the dotless ı of Turkish. The dot of the Turkish İ is dropped, so that it
/// equals i too.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        // The same result, ten times as fast.
        return text.to_ascii_lowercase();
    }
    let lower = text.nfkc().flat_map(char::to_lowercase);
    let folded = lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let mut is_after_i = false;
    let without_dots = folded.filter(|c| {
        let is_dot = is_after_i && *c == DOT_ABOVE;
        is_after_i = is_dot || *c == 'i';
        !is_dot
    });
    without_dots.nfkc().collect()
}

/// Returns the searchable text of a task: the folded title in the first line, and the folded notes after it.
pub(crate) fn search_text(title: &str, notes: &str) -> String {
    [fold(title), fold(notes)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn texts_that_differ_in_case_or_encoding_fold_alike() {
        for (one, other) in [
            ("Milk", "mILK"),
            ("Äpfel", "a\u{308}pfel"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("STRASSE", "straße"),
            ("STRAẞE", "straße"),
            ("ISPARTA", "ısparta"),
            ("İZMİR", "i\u{307}zmi\u{307}r"),
            ("İZMİR", "izmir"),
            ("İstanbul", "ISTANBUL"),
            ("I\u{307}\u{301}", "Í"),
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
    fn ascii_texts_fold_like_parts_of_other_texts() {
        let ascii: String = ('\0'..='\x7f').collect();
        assert_eq!(fold(&format!("{ascii}—")), format!("{}—", fold(&ascii)));
    }

    #[test]
    fn folding_is_idempotent() {
        // No character beyond this range has a case.
        for c in '\0'..='\u{323af}' {
            for text in [format!("A{c}"), format!("{c}\u{345}\u{308}"), format!("{c}\u{307}\u{307}\u{301}")] {
                let folded = fold(&text);
                assert_eq!(fold(&folded), folded, "{text:?}");
            }
        }
    }
}
