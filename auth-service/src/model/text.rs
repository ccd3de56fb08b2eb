//! Names, labels and user agents.

/// Maximum number of code points of a display name or label.
const MAX_CODE_POINTS: usize = 100;

/// Maximum number of code points of text of other programs.
const MAX_FOREIGN_CODE_POINTS: usize = 256;

/// Parses the name of a person or a session, which may be empty.
///
/// # Errors
/// If it is too long or has control characters.
pub fn parse_name(text: String) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters");
    }
    if text.chars().count() > MAX_CODE_POINTS {
        return Err("must be at most 100 characters long");
    }
    Ok(text)
}

/// Truncates text of another program, such as a user agent, and removes control characters. It is not an input of the user,
/// so it is not rejected.
#[must_use]
pub fn sanitize(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_FOREIGN_CODE_POINTS).collect()
}
