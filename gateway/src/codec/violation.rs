//! What is wrong with a request, and at which field.

use std::borrow::Cow;

use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// A path longer than this is cut, since its names come from the caller.
const MAX_PATH_CHARS: usize = 200;

/// A fault at one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field in the request message, in the spelling of the proto.
    pub path: String,
    /// What is wrong, to be read after the path. It never repeats the value, which may be a password.
    pub description: Cow<'static, str>,
}

impl FieldViolation {
    /// A fault of the value that is being looked at.
    pub fn new(description: impl Into<Cow<'static, str>>) -> Self {
        Self { path: String::new(), description: description.into() }
    }

    /// The same fault, seen from the message that holds the value in the field `name`.
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

    /// The same fault, seen from the list or map that holds the value at `index`.
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
        let refuse = |message| Self::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message);
        if violation.path.is_empty() {
            return refuse(format!("the body {}", violation.description));
        }
        let path: String = violation.path.chars().take(MAX_PATH_CHARS).collect();
        refuse(format!("{path}: {}", violation.description)).field(path, violation.description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside_out() {
        let violation =
            FieldViolation::new("is wrong").in_field("title").in_field("task").at_index("3").in_field("writes");
        assert_eq!(violation.path, "writes[3].task.title");
        let nested = FieldViolation::new("is wrong").at_index("1").at_index("key").in_field("map").in_field("outer");
        assert_eq!(nested.path, "outer.map[key][1]");
    }
}
