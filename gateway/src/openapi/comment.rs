//! The comments of the proto, which its descriptors carry as source info, as Markdown.

use prost_reflect::FileDescriptor;

/// The heading of the list of errors in the comment of an RPC.
const ERRORS: &str = "Errors:";

/// What begins the list of errors in the comment of a service.
const EVERY_RPC: &str = "Every RPC can also fail with";

/// The comment before what is at `path` in `file`; empty if there is none, or the descriptors came without.
#[must_use]
pub fn of(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    location.map(|location| unwrap(location.leading_comments())).unwrap_or_default()
}

/// One line for each paragraph and each item of a list: some readers show every line break.
fn unwrap(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines().map(str::trim) {
        match line {
            "" if text.is_empty() || text.ends_with("\n\n") => {}
            "" => text.push_str("\n\n"),
            _ => {
                if line.starts_with("- ") && !text.ends_with('\n') {
                    text.push('\n');
                } else if !text.is_empty() && !text.ends_with('\n') {
                    text.push(' ');
                }
                text.push_str(line);
            }
        }
    }
    text.trim_end().to_owned()
}

/// Returns a comment without its list of errors, which are described with the responses.
#[must_use]
pub fn without_errors(comment: &str) -> String {
    let paragraphs = comment.split("\n\n");
    let prose = paragraphs.filter(|text| !text.starts_with(ERRORS) && !text.starts_with(EVERY_RPC));
    prose.collect::<Vec<_>>().join("\n\n")
}

/// Returns what the comment of an RPC says of an error, `CODE / REASON`; empty if it says nothing.
#[must_use]
pub fn error_text<'c>(comment: &'c str, error: &str) -> &'c str {
    let list = comment.split("\n\n").find_map(|text| text.strip_prefix(ERRORS)).unwrap_or_default();
    let items = list.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(": "));
    let (code, reason) = error.split_once(" / ").unwrap_or_default();
    let is_meant = |head: &str| {
        let reasons = head.split_once(" / ").filter(|(other, _)| *other == code).map(|(_, reasons)| reasons);
        reasons.is_some_and(|reasons| reasons.split(", ").flat_map(|part| part.split(" or ")).any(|one| one == reason))
    };
    items.into_iter().find_map(|(head, text)| is_meant(head).then_some(text)).unwrap_or_default()
}

/// The first sentence, without its full stop.
#[must_use]
pub fn summary(comment: &str) -> String {
    let first = comment.split("\n\n").next().unwrap_or_default();
    first.split_once(". ").map_or(first, |(sentence, _)| sentence).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_but_for_paragraphs_and_lists() {
        let comment = " Does it.\n It takes\n a while.\n\n Errors:\n - A / B: one\n   thing.\n - C / D: other.\n";
        assert_eq!(unwrap(comment), "Does it. It takes a while.\n\nErrors:\n- A / B: one thing.\n- C / D: other.");
    }

    #[test]
    fn errors_are_separate_from_prose() {
        let comment = "Does it.\n\nMore.\n\nErrors:\n- A / B: one.\n- C / D, E or F: two: three.";
        assert_eq!(without_errors(comment), "Does it.\n\nMore.");
        assert_eq!(error_text(comment, "A / B"), "one.");
        assert_eq!(error_text(comment, "C / E"), "two: three.");
        assert_eq!(error_text(comment, "C / F"), "two: three.");
        assert_eq!(error_text(comment, "C / B"), "");
    }

    #[test]
    fn the_summary_is_the_first_sentence() {
        assert_eq!(summary("Does it. And more.\n\nYes."), "Does it");
        assert_eq!(summary("Does it.\n\nYes."), "Does it");
    }
}
