//! The comments of the proto files, read from the source info of the descriptors, as Markdown.

use prost_reflect::FileDescriptor;

/// The heading of the list of errors in the comment of an RPC.
const ERRORS: &str = "Errors:";

/// The beginning of the list of errors in the comment of a service.
const COMMON_ERRORS: &str = "Every RPC can also fail with";

/// Returns the leading comment of the element at `path` in `file`, or an empty text if there is no comment or no source
/// info.
#[must_use]
pub fn leading(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    location.map(|location| unwrap_lines(location.leading_comments())).unwrap_or_default()
}

/// Joins the lines of each paragraph and of each list item, because some OpenAPI viewers render every line break.
fn unwrap_lines(comment: &str) -> String {
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

/// Returns a comment without its list of errors. Errors are described with the responses.
#[must_use]
pub fn without_errors(comment: &str) -> String {
    let paragraphs = comment.split("\n\n");
    let prose = paragraphs.filter(|paragraph| !paragraph.starts_with(ERRORS) && !paragraph.starts_with(COMMON_ERRORS));
    prose.collect::<Vec<_>>().join("\n\n")
}

/// Returns the description of an error, `CODE / REASON`, in the comment of an RPC. It is empty if there is none.
#[must_use]
pub fn error_text<'c>(comment: &'c str, error: &str) -> &'c str {
    let list = comment.split("\n\n").find_map(|paragraph| paragraph.strip_prefix(ERRORS)).unwrap_or_default();
    let items = list.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(": "));
    let (code, reason) = error.split_once(" / ").unwrap_or_default();
    let has_error = |head: &str| {
        let reasons = head.split_once(" / ").filter(|(item_code, _)| *item_code == code).map(|(_, reasons)| reasons);
        reasons.is_some_and(|reasons| {
            reasons.split(", ").flat_map(|part| part.split(" or ")).any(|item_reason| item_reason == reason)
        })
    };
    items.into_iter().find_map(|(head, text)| has_error(head).then_some(text)).unwrap_or_default()
}

/// Returns the first sentence of a comment, without its full stop.
#[must_use]
pub fn summary(comment: &str) -> String {
    let paragraph = comment.split("\n\n").next().unwrap_or_default();
    paragraph.split_once(". ").map_or(paragraph, |(sentence, _)| sentence).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_within_paragraphs_and_list_items() {
        let comment = " Does it.\n It takes\n a while.\n\n Errors:\n - A / B: one\n   thing.\n - C / D: other.\n";
        assert_eq!(
            unwrap_lines(comment),
            "Does it. It takes a while.\n\nErrors:\n- A / B: one thing.\n- C / D: other."
        );
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
    fn summary_is_the_first_sentence() {
        assert_eq!(summary("Does it. And more.\n\nYes."), "Does it");
        assert_eq!(summary("Does it.\n\nYes."), "Does it");
    }
}
