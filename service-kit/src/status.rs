//! Errors of the API: a status code, a reason for programs, and details for the caller.

use std::{borrow::Cow, collections::HashMap, fmt::Display, time::Duration};

use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::ops::metrics::count_refused_call;

/// The `domain` of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "taskey";

/// The metadata in which a server sends when to retry, in milliseconds. The clients of gRPC obey it when they retry, and
/// ignore `google.rpc.RetryInfo` (gRFC A6, section "Pushback").
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Returns a delay in whole milliseconds, rounded up. Clients do not retry at all if the number exceeds 32 bits.
fn as_milliseconds(delay: Duration) -> i32 {
    i32::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// Returns the code and the message of a status, for the log. `Display` adds the sources, which repeat them.
pub(crate) fn summary(status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}

/// An error of the API. It becomes a [`Status`] with `google.rpc.ErrorInfo` and, if set, `BadRequest` and `RetryInfo`.
#[derive(Clone, Debug)]
pub struct ApiError {
    code: Code,
    reason: ErrorReason,
    message: Cow<'static, str>,
    violations: Vec<FieldViolation>,
    /// A slice, because it is smaller than a vector, and all errors are moved.
    metadata: Box<[(&'static str, String)]>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// Creates an error with a message for people, which must not contain secrets or internal causes.
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { code, reason, message, violations: Vec::new(), metadata: Box::default(), retry_after: None }
    }

    /// Creates the error of a call that exceeds a limit of rate or load, and counts the call in the metrics by the name of
    /// the limit.
    pub fn limit_exceeded(limit: &'static str, reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        count_refused_call(limit);
        Self::new(Code::ResourceExhausted, reason, message)
    }

    /// Creates an internal error. The cause is logged; the caller receives a constant message.
    pub fn internal(cause: impl Display) -> Self {
        tracing::error!(error = %cause, "internal error");
        Self::new(Code::Internal, ErrorReason::Internal, "internal error; the server's log has the cause")
    }

    /// Sets how long the caller should wait before a retry.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// Adds an invalid field, by its path in the request.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation::new(path, description));
        self
    }

    /// Adds metadata of the reason (`ErrorInfo.metadata`).
    #[must_use]
    pub fn metadata(mut self, key: &'static str, value: impl Display) -> Self {
        let entry = (key, value.to_string());
        self.metadata = self.metadata.into_iter().chain([entry]).collect();
        self
    }

    /// Returns the status code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let metadata =
            error.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<HashMap<_, _>>();
        let mut details = ErrorDetails::with_error_info(reason_name(error.reason), ERROR_DOMAIN, metadata);
        if !error.violations.is_empty() {
            details.set_bad_request(error.violations);
        }
        let mut metadata = MetadataMap::new();
        if let Some(delay) = error.retry_after {
            details.set_retry_info(Some(delay));
            metadata.insert(RETRY_PUSHBACK, as_milliseconds(delay).into());
        }
        Self::with_error_details_and_metadata(error.code, error.message, details, metadata)
    }
}

/// Returns the name of a reason in `ErrorInfo`, without the prefix of the protobuf style guide.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    without_prefix(reason.as_str_name())
}

/// Removes the prefix of the protobuf style guide from the name of a reason.
pub(crate) fn without_prefix(name: &str) -> &str {
    name.trim_start_matches("ERROR_REASON_")
}

/// Collects the invalid fields of a request, so that the caller receives all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Adds an invalid field.
    pub fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(path, description));
    }

    /// Reports whether no field is invalid so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value, or adds its error as a violation.
    pub fn check<T, E: Display>(&mut self, path: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.add(path, error.to_string())).ok()
    }

    /// Returns the path and the description of each invalid field.
    pub fn into_pairs(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter().map(|violation| (violation.field, violation.description))
    }

    /// Returns the parsed request if no field is invalid.
    ///
    /// # Errors
    /// VALIDATION_FAILED with every invalid field.
    pub fn finish<T>(self, parsed: Option<T>) -> Result<T, ApiError> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            _ => {
                let message = match &self.0[..] {
                    [only] => format!("{}: {}", only.field, only.description),
                    violations => format!("{} fields are invalid", violations.len()),
                };
                let error = ApiError::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message);
                Err(ApiError { violations: self.0, ..error })
            }
        }
    }
}
