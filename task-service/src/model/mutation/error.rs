//! Errors of writes.

use service_kit::status::ApiError;

use crate::error::{list_not_found, validation_failed};

/// The error of a write and, if a field is invalid, the path of the field within the write and a description.
pub(crate) type WriteError = (ApiError, Option<(&'static str, &'static str)>);

pub(super) fn invalid_field(path: &'static str, description: &'static str) -> WriteError {
    let error = validation_failed(description);
    (error, Some((path, description)))
}

pub(super) fn unknown_list(path: &'static str) -> WriteError {
    (list_not_found(), Some((path, "is not a list of the caller")))
}
