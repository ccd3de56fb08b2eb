//! Describes an invalid field of a request.

use std::borrow::Cow;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// Maximum length of a path. Longer paths are truncated, since the caller may choose the names in them.
const MAX_PATH_CHARS: usize = 200;

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field in the request message, with proto field names.
    pub path: String,
    /// What is wrong, as a phrase that follows the path. Never contains the value, which may be a password.
    pub description: Cow<'static, str>,
}

impl FieldViolation {
    /// Creates a violation at the current value. [`in_field`](Self::in_field) and [`at_index`](Self::at_index) add
    /// the path.
    pub fn new(description: impl Into<Cow<'static, str>>) -> Self {
        Self { path: String::new(), description: description.into() }
    }

    /// Prepends the field that contains the value to the path.
    #[must_use]
    pub fn in_field(self, name: &str) -> Self {
        let name = if name.is_empty() { "\"\"" } else { name };
        let path = match self.path.chars().next() {
            None => name.to_owned(),
            Some('[') => format!("{name}{}", self.path),
            Some(_) => format!("{name}.{}", self.path),
        };
        Self { path, ..self }
    }

    /// Prepends the index in the list, or the key in the map, that contains the value to the path.
    #[must_use]
    pub fn at_index(self, index: &str) -> Self {
        let path = match self.path.chars().next() {
            None | Some('[') => format!("[{index}]{}", self.path),
            Some(_) => format!("[{index}].{}", self.path),
        };
        Self { path, ..self }
    }
}

impl From<FieldViolation> for ApiError {
    fn from(violation: FieldViolation) -> Self {
        let new_error = |message| Self::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message);
        if violation.path.is_empty() {
            return new_error(format!("the body {}", violation.description));
        }
        let path: String = violation.path.chars().take(MAX_PATH_CHARS).collect();
        new_error(format!("{path}: {}", violation.description)).field(path, violation.description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_built_from_the_innermost_field_outwards() {
        let violation =
            FieldViolation::new("is wrong").in_field("title").in_field("task").at_index("3").in_field("writes");
        assert_eq!(violation.path, "writes[3].task.title");
        let nested = FieldViolation::new("is wrong").at_index("1").at_index("key").in_field("map").in_field("outer");
        assert_eq!(nested.path, "outer.map[key][1]");
    }
}
