//! How a call is refused: a status code, a reason that programs can branch on, and what helps the caller on.

use std::{borrow::Cow, collections::HashMap, fmt::Display, time::Duration};

use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "taskey";

/// Why a call is refused. It becomes a [`Status`] with `google.rpc.ErrorInfo` and, where they say something,
/// `BadRequest` and `RetryInfo`.
#[derive(Clone, Debug)]
pub struct Refusal {
    code: Code,
    reason: ErrorReason,
    message: Cow<'static, str>,
    violations: Vec<FieldViolation>,
    /// Boxed, since few have it and all are moved about.
    metadata: Option<Box<(&'static str, String)>>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with a text for people. The text must not hold a secret or an inner cause.
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { code, reason, message, violations: Vec::new(), metadata: None, retry_after: None }
    }

    /// A fault of the server: `cause` goes to the log, the caller gets a constant text.
    pub fn internal(cause: impl Display) -> Self {
        tracing::error!(error = %cause, "internal error");
        Self::new(Code::Internal, ErrorReason::Internal, "internal error; the server's log has the cause")
    }

    /// Tells the caller how long to wait before trying again.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// Names a field at fault by its path in the request.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation::new(path, description));
        self
    }

    /// Says more about the reason (`ErrorInfo.metadata`).
    #[must_use]
    pub fn metadata(mut self, key: &'static str, value: impl Display) -> Self {
        self.metadata = Some(Box::new((key, value.to_string())));
        self
    }

    /// The status code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let metadata = HashMap::from_iter(refusal.metadata.map(|said| (said.0.to_owned(), said.1)));
        let mut details = ErrorDetails::with_error_info(reason_name(refusal.reason), ERROR_DOMAIN, metadata);
        if !refusal.violations.is_empty() {
            details.set_bad_request(refusal.violations);
        }
        if refusal.retry_after.is_some() {
            details.set_retry_info(refusal.retry_after);
        }
        Self::with_error_details(refusal.code, refusal.message, details)
    }
}

/// The name of a reason as it stands in `ErrorInfo`: without the prefix that the style of protobuf asks for.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// Collects what is wrong with a request, so that the caller learns of all of it at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Adds a fault.
    pub fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(path, description));
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the value, or notes what is wrong with it.
    pub fn check<T, E: Display>(&mut self, path: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|fault| self.add(path, fault.to_string())).ok()
    }

    /// Gives the parsed request if it has come about and nothing is wrong.
    ///
    /// # Errors
    /// VALIDATION_FAILED with every fault that was added.
    pub fn finish<T>(self, parsed: Option<T>) -> Result<T, Refusal> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            _ => {
                let message = match &self.0[..] {
                    [only] => format!("{}: {}", only.field, only.description),
                    several => format!("{} fields are at fault", several.len()),
                };
                let refusal = Refusal::new(Code::InvalidArgument, ErrorReason::ValidationFailed, message);
                Err(Refusal { violations: self.0, ..refusal })
            }
        }
    }
}
