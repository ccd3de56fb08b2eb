//! The options of `taskey.options.v1`: the scopes that RPCs require, the errors that they return, and the limits of fields.

use anyhow::bail;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MethodDescriptor, ReflectMessage as _, ServiceDescriptor, Value,
};
use serde_json::{Map, Value as JsonValue, json};
use service_kit::status::reason_name;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::comment;
use crate::http::error;

/// The scope of RPCs that need no access token.
const PUBLIC: &str = "public";

/// Reports whether an RPC can be called without an access token.
#[must_use]
pub fn is_public(method: &MethodDescriptor) -> bool {
    scope(method).as_deref() == Some(PUBLIC)
}

/// Returns the scope that an RPC requires, or `public`.
#[must_use]
pub fn scope(method: &MethodDescriptor) -> Option<String> {
    option(&method.options(), "scope")?.as_str().map(str::to_owned)
}

/// Returns the errors of an RPC, each as `CODE / REASON`, without the errors common to its service.
#[must_use]
pub fn error_options(method: &MethodDescriptor) -> Vec<String> {
    strings(option(&method.options(), "errors").as_ref())
}

/// Returns the errors common to all RPCs of a service, each as `CODE / REASON`.
#[must_use]
pub fn common_error_options(service: &ServiceDescriptor) -> Vec<String> {
    strings(option(&service.options(), "common_errors").as_ref())
}

/// The limits of the values of a field in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Minimum length of a string, in characters.
    pub min_length: u32,
    /// Maximum length of a string, in characters; 0 for no maximum.
    pub max_length: u32,
    /// Minimum number of elements.
    pub min_items: u32,
    /// Maximum number of elements; 0 for no maximum.
    pub max_items: u32,
    /// Whether a number must not be negative.
    pub non_negative: bool,
    /// Whether a string must be a UUID.
    pub uuid: bool,
}

impl Limits {
    /// Returns the limits of a field.
    #[must_use]
    pub fn from_field(field: &FieldDescriptor) -> Self {
        let Some(Value::Message(limits)) = option(&field.options(), "limits") else { return Self::default() };
        let number = |name| limits.get_field_by_name(name).and_then(|value| value.as_u32()).unwrap_or_default();
        let flag = |name| limits.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or_default();
        Self {
            min_length: number("min_length"),
            max_length: number("max_length"),
            min_items: number("min_items"),
            max_items: number("max_items"),
            non_negative: flag("non_negative"),
            uuid: flag("uuid"),
        }
    }

    /// Adds the limits of a single value to its schema.
    pub fn add_to_value(self, schema: &mut Map<String, JsonValue>) {
        add_range(schema, ["minLength", "maxLength"], [self.min_length, self.max_length]);
        if self.non_negative {
            schema.insert("minimum".to_owned(), json!(0));
        }
        if self.uuid {
            schema.insert("format".to_owned(), json!("uuid"));
        }
    }

    /// Adds the minimum and maximum number of elements to the schema of a list.
    pub fn add_to_list(self, schema: &mut Map<String, JsonValue>) {
        add_range(schema, ["minItems", "maxItems"], [self.min_items, self.max_items]);
    }
}

fn add_range(schema: &mut Map<String, JsonValue>, keys: [&str; 2], range: [u32; 2]) {
    for (key, limit) in keys.into_iter().zip(range).filter(|(_, limit)| *limit > 0) {
        schema.insert(key.to_owned(), json!(limit));
    }
}

/// Returns the option `name` of `taskey.options.v1` if it is set.
fn option(options: &DynamicMessage, name: &str) -> Option<Value> {
    let descriptor = options.descriptor();
    let extension = descriptor.parent_pool().get_extension_by_name(&format!("taskey.options.v1.{name}"))?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_list).unwrap_or_default();
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// An error that an RPC returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedError {
    /// The status code.
    pub code: Code,
    /// The reason.
    pub reason: ErrorReason,
    /// The description of when the error is returned.
    pub description: String,
}

/// Returns all errors of an RPC: its own, in the order of the option, followed by those common to its service.
///
/// # Errors
/// If an option is not `CODE / REASON`.
pub fn errors(method: &MethodDescriptor) -> anyhow::Result<Vec<DocumentedError>> {
    let (pool, service) = (method.parent_pool(), method.parent_service());
    let comment = comment::leading(&service.parent_file(), method.path());
    let mut errors = Vec::new();
    for option in error_options(method) {
        let (code, reason) = parse_error_option(&option)?;
        add_error(&mut errors, document_error(pool, code, reason, comment::error_text(&comment, &option)));
    }
    for option in common_error_options(service) {
        let (code, reason) = parse_error_option(&option)?;
        add_error(&mut errors, document_error(pool, code, reason, ""));
    }
    Ok(errors)
}

/// Adds an error unless the list already contains its code and reason.
pub fn add_error(errors: &mut Vec<DocumentedError>, error: DocumentedError) {
    if !errors.iter().any(|existing| (existing.code, existing.reason) == (error.code, error.reason)) {
        errors.push(error);
    }
}

/// Creates an error. If `description` is empty, the comment of the reason is used.
#[must_use]
pub fn document_error(pool: &DescriptorPool, code: Code, reason: ErrorReason, description: &str) -> DocumentedError {
    let description = if description.is_empty() { reason_comment(pool, reason) } else { description.to_owned() };
    DocumentedError { code, reason, description }
}

/// Returns the comment of a reason, without the status code at its beginning.
fn reason_comment(pool: &DescriptorPool, reason: ErrorReason) -> String {
    let value = pool
        .get_enum_by_name("taskey.errors.v1.ErrorReason")
        .and_then(|reasons| reasons.get_value_by_name(reason.as_str_name()));
    let comment =
        value.map(|value| comment::leading(&value.parent_enum().parent_file(), value.path())).unwrap_or_default();
    match comment.split_once(": ") {
        Some((code, rest)) if code_from_name(code).is_some() => rest.to_owned(),
        _ => comment,
    }
}

/// Parses `CODE / REASON`.
fn parse_error_option(option: &str) -> anyhow::Result<(Code, ErrorReason)> {
    let parsed = option.split_once(" / ").and_then(|(code, reason)| {
        Some((code_from_name(code)?, ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"))?))
    });
    let Some(parsed) = parsed else { bail!("{option:?} is not CODE / REASON") };
    Ok(parsed)
}

fn code_from_name(name: &str) -> Option<Code> {
    (0..=16).map(Code::from_i32).find(|code| error::mapping(*code).1 == name)
}

/// Returns the name of a status code as it is written in the contract.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    error::mapping(code).1
}

impl DocumentedError {
    /// Returns the HTTP status code of the error.
    #[must_use]
    pub fn http_code(&self) -> u16 {
        match self.reason {
            ErrorReason::MessageTooLarge => 413,
            _ => error::mapping(self.code).0.as_u16(),
        }
    }

    /// Returns the name of the reason on the wire.
    #[must_use]
    pub fn reason_name(&self) -> &'static str {
        reason_name(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_option_is_a_code_and_a_reason() {
        let parsed = parse_error_option("UNAUTHENTICATED / TOKEN_MISSING").expect("a code and a reason");
        assert_eq!(parsed, (Code::Unauthenticated, ErrorReason::TokenMissing));
        for invalid in ["NOT_FOUND / NO_SUCH_REASON", "MISSING / TOKEN_MISSING", "NOT_FOUND", ""] {
            assert!(parse_error_option(invalid).is_err(), "{invalid}");
        }
    }
}
