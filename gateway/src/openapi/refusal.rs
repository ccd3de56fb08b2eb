//! Which refusals an RPC answers, as the comments of the contract list them: `- CODE / REASON: text` for an RPC, and
//! `Every RPC can also fail with CODE / REASON, REASON or REASON, ...` for a service.

use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use service_kit::status::reason_name;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::comment;
use crate::http::error;

/// A refusal that an RPC answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Its status.
    pub code: Code,
    /// Its reason.
    pub reason: ErrorReason,
    /// When it is answered.
    pub text: String,
}

/// All refusals of an RPC: its own, in their order, and then those that every RPC of its service has.
#[must_use]
pub fn of(method: &MethodDescriptor) -> Vec<ApiError> {
    let pool = method.parent_pool();
    let service = of_service(method.parent_service());
    let common = scan(&service).into_iter().map(|(code, reason)| refusal(pool, code, reason, ""));
    let mut refusals = Vec::new();
    for refusal in own(method).into_iter().chain(common) {
        add(&mut refusals, refusal);
    }
    refusals
}

/// Adds a refusal unless it is there.
pub fn add(refusals: &mut Vec<ApiError>, refusal: ApiError) {
    if !refusals.iter().any(|other| (other.code, other.reason) == (refusal.code, refusal.reason)) {
        refusals.push(refusal);
    }
}

/// A refusal with its text, or without one what the contract says of its reason.
#[must_use]
pub fn refusal(pool: &DescriptorPool, code: Code, reason: ErrorReason, text: &str) -> ApiError {
    let text = if text.is_empty() { meaning(pool, reason) } else { text.to_owned() };
    ApiError { code, reason, text }
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

/// What the comment of a service says of every RPC; it may refer to another service.
fn of_service(service: &ServiceDescriptor) -> String {
    let text = comment::of(&service.parent_file(), service.path());
    let common = text.split("\n\n").find(|text| text.starts_with(comment::EVERY_RPC)).unwrap_or_default();
    let other = common.split_once("of every RPC of `").and_then(|(_, rest)| rest.split_once('`'));
    let Some((other, _)) = other else { return common.to_owned() };
    let name = format!("{}.{other}", service.package_name());
    match service.parent_pool().get_service_by_name(&name) {
        Some(other) if other != *service => of_service(&other),
        _ => String::new(),
    }
}

/// What the comment of an RPC lists, and then what it refers to.
fn own(method: &MethodDescriptor) -> Vec<ApiError> {
    let text = comment::of(&method.parent_service().parent_file(), method.path());
    let siblings: Vec<_> = method.parent_service().methods().filter(|other| other != method).collect();
    let (mut refusals, mut others) = (Vec::new(), Vec::new());
    for item in comment::answers(&text) {
        let other = item.strip_prefix("As `").and_then(|rest| rest.split_once('`'));
        if let Some((other, _)) = other {
            others.extend(siblings.iter().filter(|sibling| sibling.name() == other).flat_map(own));
        } else if item.starts_with("The errors of the ") && item.contains(" themselves") {
            others.extend(siblings.iter().filter(|sibling| holds(&method.input(), &sibling.input())).flat_map(own));
        } else {
            let (head, text) = item.split_once(": ").unwrap_or((item, ""));
            let pool = method.parent_pool();
            refusals.extend(scan(head).into_iter().map(|(code, reason)| refusal(pool, code, reason, text)));
        }
    }
    refusals.append(&mut others);
    refusals
}

/// Whether messages of one type hold those of another, directly or in their own messages.
fn holds(outer: &MessageDescriptor, inner: &MessageDescriptor) -> bool {
    outer
        .fields()
        .filter_map(|field| field.kind().as_message().cloned())
        .any(|of| of == *inner || (of.parent_message().as_ref() == Some(outer) && holds(&of, inner)))
}

/// The pairs in `CODE / REASON, REASON or REASON, CODE / REASON`.
fn scan(text: &str) -> Vec<(Code, ErrorReason)> {
    let words: Vec<_> = text.split_whitespace().map(|word| word.trim_end_matches(['.', ','])).collect();
    let mut found = Vec::new();
    let mut code = None;
    for (index, word) in words.iter().enumerate() {
        if words.get(index + 1) == Some(&"/") {
            code = code_named(word);
        } else if let Some(reason) = ErrorReason::from_str_name(&format!("ERROR_REASON_{word}")) {
            found.extend(code.map(|code| (code, reason)));
        } else if !["/", "or", "and"].contains(word) {
            code = None;
        }
    }
    found
}

fn code_named(name: &str) -> Option<Code> {
    (0..=16).map(Code::from_i32).find(|code| error::mapping(*code).1 == name)
}

/// The name of a status code, as the contract writes it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    error::mapping(code).1
}

impl ApiError {
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
    fn a_code_counts_for_all_reasons_that_follow_it() {
        let text = "UNAUTHENTICATED / TOKEN_MISSING, TOKEN_EXPIRED or TOKEN_REVOKED, PERMISSION_DENIED / \
                    PERMISSION_DENIED without the role, UNAVAILABLE / STORE_UNAVAILABLE and INTERNAL / INTERNAL.";
        assert_eq!(
            scan(text),
            [
                (Code::Unauthenticated, ErrorReason::TokenMissing),
                (Code::Unauthenticated, ErrorReason::TokenExpired),
                (Code::Unauthenticated, ErrorReason::TokenRevoked),
                (Code::PermissionDenied, ErrorReason::PermissionDenied),
                (Code::Unavailable, ErrorReason::StoreUnavailable),
                (Code::Internal, ErrorReason::Internal),
            ]
        );
    }

    #[test]
    fn what_is_no_refusal_is_passed_over() {
        assert_eq!(scan("The errors of the writes themselves"), []);
        assert_eq!(scan("NOT_FOUND / NO_SUCH_REASON"), []);
    }
}
