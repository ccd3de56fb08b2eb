//! Errors of writes.

use std::borrow::Cow;

use service_kit::status::ApiError;

use crate::error::{list_not_found, validation_failed};

/// The path of a field within a write, and a description.
type Field = (&'static str, &'static str);

/// The error of a write.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// A field is invalid: its path within the write, and a description.
    Invalid(Cow<'static, str>, &'static str),
    /// Another error, and the field that names what it concerns, if any.
    Other(ApiError, Option<Field>),
}

impl WriteError {
    /// Converts the error of a write whose fields have paths that begin with `prefix`. If the error has no field,
    /// `id_path` is added, the path of the field that names the task.
    pub(crate) fn into_api_error(self, prefix: &str, id_path: Option<&'static str>) -> ApiError {
        match self {
            Self::Invalid(path, description) => validation_failed(&format!("{prefix}{path}"), description),
            Self::Other(error, field) => {
                let task = id_path.map(|path| (path, "identifies the task for which the write failed"));
                match field.or(task) {
                    Some((path, description)) => error.field(format!("{prefix}{path}"), description),
                    None => error,
                }
            }
        }
    }
}

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        Self::Other(error, None)
    }
}

pub(super) fn invalid_field(path: impl Into<Cow<'static, str>>, description: &'static str) -> WriteError {
    WriteError::Invalid(path.into(), description)
}

pub(super) fn unknown_list(path: &'static str) -> WriteError {
    WriteError::Other(list_not_found(), Some((path, "is not a list of the caller")))
}
