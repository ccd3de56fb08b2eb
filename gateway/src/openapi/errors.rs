//! The errors of an RPC, as the options of the contract list them.

use anyhow::bail;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use service_kit::status::reason_name;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{comment, options};
use crate::http::error;

/// An error that an RPC returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedError {
    /// The status code.
    pub code: Code,
    /// The reason.
    pub reason: ErrorReason,
    /// When it is returned.
    pub text: String,
}

/// Returns all errors of an RPC: its own, in their order, and then those of every RPC of its service.
///
/// # Errors
/// If an option is not `CODE / REASON`.
pub fn of(method: &MethodDescriptor) -> anyhow::Result<Vec<DocumentedError>> {
    let (pool, service) = (method.parent_pool(), method.parent_service());
    let comment = comment::of(&service.parent_file(), method.path());
    let mut errors = Vec::new();
    for option in options::errors(method) {
        let (code, reason) = parse(&option)?;
        add(&mut errors, documented(pool, code, reason, comment::error_text(&comment, &option)));
    }
    for option in options::common_errors(service) {
        let (code, reason) = parse(&option)?;
        add(&mut errors, documented(pool, code, reason, ""));
    }
    Ok(errors)
}

/// Adds an error unless it is there.
pub fn add(errors: &mut Vec<DocumentedError>, error: DocumentedError) {
    if !errors.iter().any(|other| (other.code, other.reason) == (error.code, error.reason)) {
        errors.push(error);
    }
}

/// Returns an error with its text, or without one with the comment of its reason.
#[must_use]
pub fn documented(pool: &DescriptorPool, code: Code, reason: ErrorReason, text: &str) -> DocumentedError {
    let text = if text.is_empty() { meaning(pool, reason) } else { text.to_owned() };
    DocumentedError { code, reason, text }
}

/// What the contract says of a reason, without the code that it begins with.
fn meaning(pool: &DescriptorPool, reason: ErrorReason) -> String {
    let value = pool
        .get_enum_by_name("taskey.errors.v1.ErrorReason")
        .and_then(|reasons| reasons.get_value_by_name(reason.as_str_name()));
    let text = value.map(|value| comment::of(&value.parent_enum().parent_file(), value.path())).unwrap_or_default();
    match text.split_once(": ") {
        Some((code, rest)) if code_named(code).is_some() => rest.to_owned(),
        _ => text,
    }
}

/// Parses `CODE / REASON`.
fn parse(option: &str) -> anyhow::Result<(Code, ErrorReason)> {
    let parsed = option.split_once(" / ").and_then(|(code, reason)| {
        Some((code_named(code)?, ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"))?))
    });
    let Some(parsed) = parsed else { bail!("{option:?} is not CODE / REASON") };
    Ok(parsed)
}

fn code_named(name: &str) -> Option<Code> {
    (0..=16).map(Code::from_i32).find(|code| error::mapping(*code).1 == name)
}

/// The name of a status code, as the contract writes it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    error::mapping(code).1
}

impl DocumentedError {
    /// The HTTP code that the gateway answers it with.
    #[must_use]
    pub fn http_code(&self) -> u16 {
        match self.reason {
            ErrorReason::MessageTooLarge => 413,
            _ => error::mapping(self.code).0.as_u16(),
        }
    }

    /// The name of its reason on the wire.
    #[must_use]
    pub fn reason_name(&self) -> &'static str {
        reason_name(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_code_and_a_reason() {
        let parsed = parse("UNAUTHENTICATED / TOKEN_MISSING").expect("a code and a reason");
        assert_eq!(parsed, (Code::Unauthenticated, ErrorReason::TokenMissing));
        for wrong in ["NOT_FOUND / NO_SUCH_REASON", "MISSING / TOKEN_MISSING", "NOT_FOUND", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
