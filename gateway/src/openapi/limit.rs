//! The limits of lengths that the comments of the contract state in a form that a program can read, such as
//! `1 to 200 code points` or `at most 20, each 1 to 50 code points`. What is said in another form stays a text.

use serde_json::{Map, Value, json};

use super::refusal::ApiError;

/// From at least, if it is said, to at most.
type Limit = (Option<u64>, u64);

/// Adds what `comment` says of the length of a text to its schema.
pub fn of_text(schema: &mut Map<String, Value>, comment: &str) {
    let words = words(comment);
    let mut units = words.iter().enumerate().filter_map(|(index, word)| match *word {
        // What goes on behind the unit is a condition, unless a comma ends the statement.
        "points," | "points." | "points;" if index > 0 && words[index - 1] == "code" => Some(index - 1),
        "characters," | "characters." | "characters;" => Some(index),
        _ => None,
    });
    if let Some(limit) = units.find_map(|end| before(&words[..end])) {
        put(schema, "minLength", "maxLength", limit);
    }
}

/// Adds what `comment` says of the length of a list to its schema.
pub fn of_list(schema: &mut Map<String, Value>, comment: &str) {
    let words = words(comment);
    let each = words.iter().position(|word| *word == "each");
    let limit = match each {
        Some(index) => before(&words[..index]),
        None => before(&words).filter(|(least, _)| least.is_some()),
    };
    if let Some(limit) = limit {
        put(schema, "minItems", "maxItems", limit);
    }
}

/// Adds what the refusals of an RPC say of a field of its request: `` `page_size` is negative``, `` `id` is not a UUID``.
pub fn by_refusals(schema: &mut Value, field: &str, refusals: &[ApiError]) {
    let is_said = |what: &str| {
        let clauses = refusals.iter().flat_map(|refusal| refusal.text.split(", "));
        clauses.filter(|clause| clause.contains(&format!("`{field}`"))).any(|clause| clause.contains(what))
    };
    if schema["type"] == "integer" && is_said("is negative") {
        schema["minimum"] = json!(0);
    }
    if schema["type"] == "string" && is_said("is not a UUID") {
        schema["format"] = json!("uuid");
    }
}

fn words(comment: &str) -> Vec<&str> {
    comment.split_whitespace().collect()
}

/// The limit that these words end with: `N to M` or `at most M`.
fn before(words: &[&str]) -> Option<Limit> {
    let number = |word: &str| word.trim_end_matches([',', '.']).parse().ok();
    match words {
        [.., least, "to", most] => Some((Some(number(least)?), number(most)?)),
        [.., "at", "most", most] => Some((None, number(most)?)),
        _ => None,
    }
}

fn put(schema: &mut Map<String, Value>, least_key: &str, most_key: &str, (least, most): Limit) {
    if let Some(least) = least {
        schema.insert(least_key.to_owned(), json!(least));
    }
    schema.insert(most_key.to_owned(), json!(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(comment: &str) -> Value {
        let mut schema = Map::new();
        of_text(&mut schema, comment);
        schema.into()
    }

    fn list(comment: &str) -> Value {
        let mut schema = Map::new();
        of_list(&mut schema, comment);
        schema.into()
    }

    #[test]
    fn a_text_is_limited_in_code_points_or_characters() {
        assert_eq!(text("What: 1 to 200 code points, no more."), json!({"minLength": 1, "maxLength": 200}));
        assert_eq!(text("What: at most 4000 code points."), json!({"maxLength": 4000}));
        assert_eq!(text("At all: at most 254 characters, of them 64 before."), json!({"maxLength": 254}));
    }

    #[test]
    fn a_list_is_limited_in_number() {
        assert_eq!(list("Words: at most 20, each 1 to 50 code points."), json!({"maxItems": 20}));
        assert_eq!(list("The writes, in their order: 1 to 100."), json!({"minItems": 1, "maxItems": 100}));
    }

    #[test]
    fn what_holds_on_a_condition_is_no_limit() {
        for comment in ["15 to 128 code points after NFKC.", "Cut to 256 code points.", "At most 2 KiB.", ""] {
            assert_eq!(text(comment), json!({}), "{comment}");
        }
        assert_eq!(list("How many at once: at most 500."), json!({}));
    }
}
