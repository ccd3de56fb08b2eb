//! Short texts that people give to things.

/// How many code points a display name or a label may have.
const MAX_CODE_POINTS: usize = 100;

/// How many code points of a user agent are kept.
const USER_AGENT_CODE_POINTS: usize = 256;

/// A name for people or devices; it may be empty.
///
/// # Errors
/// What is wrong with it, in words for a person.
pub fn name(text: String) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("must not have control characters");
    }
    if text.chars().count() > MAX_CODE_POINTS {
        return Err("must be at most 100 characters long");
    }
    Ok(text)
}

/// What a client says of itself. It is not the user's input, so it is cut rather than refused.
#[must_use]
pub fn user_agent(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(USER_AGENT_CODE_POINTS).collect()
}
