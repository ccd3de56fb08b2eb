//! Compares the answer to a step with what the scenario expects.

use serde_json::{Map, Value};

/// Returns how an answer differs from what is expected, or `None` if it matches.
///
/// Objects may contain more members than expected, and absent members match the default values of protobuf, because
/// clients may omit those. An expected object with a member that begins with `$` is a condition.
pub fn difference(expected: &Value, actual: Option<&Value>) -> Option<String> {
    compare("answer", expected, actual.unwrap_or(&Value::Null))
}

fn compare(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    let unequal = || Some(format!("{path} is {} instead of {expected}", shorten(actual)));
    match (expected, actual) {
        (Value::Object(conditions), _) if conditions.keys().any(|name| name.starts_with('$')) => {
            conditions.iter().find_map(|(name, value)| check(path, name, value, actual))
        }
        (Value::Object(members), Value::Object(_) | Value::Null) => members.iter().find_map(|(name, value)| {
            compare(&format!("{path}.{name}"), value, actual.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(index, (expected, actual))| compare(&format!("{path}[{index}]"), expected, actual))
        }
        (_, Value::Null) if is_default(expected) => None,
        (Value::Number(expected), Value::Number(actual)) if expected.as_f64() == actual.as_f64() => None,
        _ if expected == actual => None,
        _ => unequal(),
    }
}

/// Checks one condition.
fn check(path: &str, condition: &str, value: &Value, actual: &Value) -> Option<String> {
    let length = || match actual {
        Value::Array(items) => items.len(),
        Value::String(text) => text.len(),
        _ => 0,
    };
    let holds = match condition {
        "$is_set" => value.as_bool() == Some(!is_default(actual)),
        "$at_least" => actual.as_f64() >= value.as_f64() && actual.is_number(),
        "$at_most" => actual.as_f64() <= value.as_f64() && actual.is_number(),
        "$length" => return compare(&format!("the length of {path}"), value, &Value::from(length())),
        "$not" => compare(path, value, actual).is_some(),
        "$one_of" => value.as_array().is_some_and(|all| all.iter().any(|one| compare(path, one, actual).is_none())),
        "$contains" => {
            let items = actual.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().any(|item| compare(path, value, item).is_none())
        }
        _ => panic!("unknown condition {condition}"),
    };
    (!holds).then(|| format!("{path} is {}, which violates {condition} {value}", shorten(actual)))
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Returns the JSON of a value, shortened so that it can be part of an error message.
pub fn shorten(value: &Value) -> String {
    const MAX_CHARS: usize = 300;
    let text = value.to_string();
    let end = text.char_indices().nth(MAX_CHARS).map(|(index, _)| index);
    end.map_or(text.clone(), |end| format!("{}…", &text[..end]))
}

/// The values that a scenario has saved, and those of its servers.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub Map<String, Value>);

impl Variables {
    /// Replaces `$name` and `${name}` in all strings. A string that is only `$name` becomes the value itself.
    ///
    /// # Errors
    /// The name of a variable that does not exist.
    pub fn expand(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) if !name.starts_with('{') => self.get(name)?.clone(),
                _ => Value::String(self.expand_text(text)?),
            },
            Value::Array(items) => items.iter().map(|item| self.expand(item)).collect::<Result<_, _>>()?,
            Value::Object(members) => Value::Object(self.expand_members(members)?),
            other => other.clone(),
        })
    }

    pub fn expand_members(&self, members: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        members.iter().map(|(name, value)| Ok((name.clone(), self.expand(value)?))).collect()
    }

    fn expand_text(&self, text: &str) -> Result<String, String> {
        let mut parts = text.split("${");
        let mut expanded = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').ok_or_else(|| format!("unclosed variable in {text:?}"))?;
            let value = self.get(name)?;
            expanded += value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str();
            expanded += rest;
        }
        Ok(expanded)
    }

    fn get(&self, name: &str) -> Result<&Value, String> {
        self.0.get(name).ok_or_else(|| format!("there is no variable {name:?}"))
    }
}
