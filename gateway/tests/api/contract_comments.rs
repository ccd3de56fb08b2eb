//! The comments of the contract agree with its machine-readable options.

use std::collections::BTreeSet;

use gateway::{
    openapi::{
        comment,
        contract::{self, Limits, common_error_options, error_options},
    },
    routing::binding::has_no_side_effects,
};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use service_kit::auth::scope::Scope;

use crate::openapi::contract_pool;

/// Returns each `CODE / REASON` in a text such as `CODE / REASON, REASON or REASON, CODE / REASON and CODE / REASON`.
fn errors_in(text: &str) -> BTreeSet<String> {
    let words: Vec<_> = text.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ':'])).collect();
    let is_name = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let (mut errors, mut code) = (BTreeSet::new(), None);
    for (index, word) in words.iter().enumerate() {
        match *word {
            "/" | "or" | "and" => {}
            word if words.get(index + 1) == Some(&"/") => code = Some(word),
            word if is_name(word) => errors.extend(code.map(|code| format!("{code} / {word}"))),
            _ => code = None,
        }
    }
    errors
}

/// Returns the fields of a message and of the messages defined in it.
fn fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    message.fields().chain(message.child_messages().flat_map(|inner| fields(&inner))).collect()
}

#[test]
fn error_options_match_the_comments_of_rpcs() {
    let pool = contract_pool();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options: BTreeSet<_> = error_options(&method).into_iter().collect();
        let comment = comment::leading(&method.parent_service().parent_file(), method.path());
        let list = comment.split("\n\n").find_map(|paragraph| paragraph.strip_prefix("Errors:")).unwrap_or_default();
        let heads = list.lines().map(|item| item.split(": ").next().unwrap_or_default());
        let documented: BTreeSet<_> = heads.flat_map(errors_in).collect();
        if list.contains("- As `") || list.contains("- The errors of the ") {
            assert!(options.is_superset(&documented), "{}: {documented:?}", method.full_name());
        } else {
            assert_eq!(options, documented, "{}", method.full_name());
        }
    }
}

#[test]
fn common_error_options_match_the_comments_of_services() {
    for service in contract_pool().services().filter(|service| service.package_name().starts_with("taskey.")) {
        let options: BTreeSet<_> = common_error_options(&service).into_iter().collect();
        let comment = comment::leading(&service.parent_file(), service.path());
        let common = comment.split("\n\n").find(|paragraph| paragraph.starts_with("Every RPC can also fail with"));
        let common = common.unwrap_or_else(|| panic!("{} documents no common errors", service.full_name()));
        let documented = match common.split_once("of every RPC of `").and_then(|(_, rest)| rest.split_once('`')) {
            Some((other, _)) => {
                let other = format!("{}.{other}", service.package_name());
                let other = contract_pool().get_service_by_name(&other).expect("the other service");
                common_error_options(&other).into_iter().collect()
            }
            None => errors_in(common),
        };
        assert_eq!(options, documented, "{}", service.full_name());
    }
}

#[test]
fn every_rpc_has_a_scope() {
    for method in contract_pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let name = method.full_name();
        let text = contract::scope(&method).unwrap_or_else(|| panic!("{name} has no scope"));
        if text == "public" {
            continue;
        }
        let scope: Scope = text.parse().unwrap_or_else(|error| panic!("{name}: {text} {error}"));
        let (service, reads) = (method.parent_service(), has_no_side_effects(&method));
        let expected = match (service.name(), reads) {
            ("TaskService" | "TaskListService" | "WebhookService", true) => Scope::TasksRead,
            ("TaskService" | "TaskListService" | "WebhookService", false) => Scope::TasksWrite,
            (
                "AccountService" | "DeviceAuthorizationService" | "FactorService" | "PersonalAccessTokenService",
                is_read,
            ) => {
                if is_read {
                    Scope::AccountRead
                } else {
                    Scope::AccountWrite
                }
            }
            ("AdminService", true) => Scope::AdminRead,
            ("AdminService", false) => Scope::AdminWrite,
            ("TokenService", _) => Scope::TokensVerify,
            (other, _) => panic!("{other} has no scopes in this test"),
        };
        assert_eq!(scope, expected, "{name}");
    }
}

#[test]
fn public_rpcs_are_documented_as_public() {
    for method in contract_pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let service = method.parent_service();
        let service_comment = comment::leading(&service.parent_file(), service.path());
        let rpc_comment = comment::leading(&service.parent_file(), method.path());
        let is_documented = service_comment.contains("No RPC of this service needs an access token.")
            || rpc_comment.contains("Open to anyone.");
        assert_eq!(contract::is_public(&method), is_documented, "{}", method.full_name());
    }
}

#[test]
fn limits_are_in_the_comments_of_fields() {
    let mut count = 0;
    for field in contract_pool().all_messages().flat_map(|message| fields(&message)) {
        let limits = Limits::from_field(&field);
        let comment = comment::leading(&field.parent_file(), field.path());
        let range = |min: u32, max: u32| if min > 0 { format!("{min} to {max}") } else { format!("at most {max}") };
        if limits.max_length > 0 {
            let text = format!("{} characters", range(limits.min_length, limits.max_length));
            assert!(comment.contains(&text), "{}: {text}", field.full_name());
            count += 1;
        }
        if limits.max_items > 0 {
            let text = range(limits.min_items, limits.max_items);
            assert!(comment.contains(&text), "{}: {text}", field.full_name());
            count += 1;
        }
    }
    assert!(count > 0);
}
