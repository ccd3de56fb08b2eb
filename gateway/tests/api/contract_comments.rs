//! The comments of the contract say what its options say, which programs read.

use std::collections::BTreeSet;

use gateway::openapi::{
    comment,
    options::{self, Limits},
};
use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::openapi::contract;

/// Returns each `CODE / REASON` in a text such as `CODE / REASON, REASON or REASON, CODE / REASON and CODE / REASON`.
fn errors_in(text: &str) -> BTreeSet<String> {
    let words: Vec<_> = text.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ':'])).collect();
    let is_name = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let (mut found, mut code) = (BTreeSet::new(), None);
    for (index, word) in words.iter().enumerate() {
        match *word {
            "/" | "or" | "and" => {}
            word if words.get(index + 1) == Some(&"/") => code = Some(word),
            word if is_name(word) => found.extend(code.map(|code| format!("{code} / {word}"))),
            _ => code = None,
        }
    }
    found
}

fn fields(of: &MessageDescriptor) -> Vec<FieldDescriptor> {
    of.fields().chain(of.child_messages().flat_map(|inner| fields(&inner))).collect()
}

#[test]
fn the_errors_of_an_rpc_are_those_in_its_comment() {
    let pool = contract();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options: BTreeSet<_> = options::errors(&method).into_iter().collect();
        let comment = comment::of(&method.parent_service().parent_file(), method.path());
        let list = comment.split("\n\n").find_map(|text| text.strip_prefix("Errors:")).unwrap_or_default();
        let heads = list.lines().map(|item| item.split(": ").next().unwrap_or_default());
        let said: BTreeSet<_> = heads.flat_map(errors_in).collect();
        if list.contains("- As `") || list.contains("- The errors of the ") {
            assert!(options.is_superset(&said), "{}: {said:?}", method.full_name());
        } else {
            assert_eq!(options, said, "{}", method.full_name());
        }
    }
}

#[test]
fn the_errors_of_every_rpc_are_those_in_the_comment_of_the_service() {
    for service in contract().services().filter(|service| service.package_name().starts_with("taskey.")) {
        let options: BTreeSet<_> = options::common_errors(&service).into_iter().collect();
        let comment = comment::of(&service.parent_file(), service.path());
        let common = comment.split("\n\n").find(|text| text.starts_with("Every RPC can also fail with"));
        let common = common.unwrap_or_else(|| panic!("{} has errors", service.full_name()));
        let said = match common.split_once("of every RPC of `").and_then(|(_, rest)| rest.split_once('`')) {
            Some((other, _)) => {
                let other = format!("{}.{other}", service.package_name());
                let other = contract().get_service_by_name(&other).expect("the other service");
                options::common_errors(&other).into_iter().collect()
            }
            None => errors_in(common),
        };
        assert_eq!(options, said, "{}", service.full_name());
    }
}

#[test]
fn public_rpcs_are_said_to_be_open() {
    for method in contract().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let service = method.parent_service();
        let of_service = comment::of(&service.parent_file(), service.path());
        let of_rpc = comment::of(&service.parent_file(), method.path());
        let is_open =
            of_service.contains("No RPC of this service needs an access token.") || of_rpc.contains("Open to anyone.");
        assert_eq!(options::is_public(&method), is_open, "{}", method.full_name());
    }
}

#[test]
fn the_limits_of_a_field_are_in_its_comment() {
    let mut count = 0;
    for field in contract().all_messages().flat_map(|message| fields(&message)) {
        let limits = Limits::of(&field);
        let comment = comment::of(&field.parent_file(), field.path());
        let said =
            |least: u32, most: u32| if least > 0 { format!("{least} to {most}") } else { format!("at most {most}") };
        if limits.max_length > 0 {
            let text = format!("{} characters", said(limits.min_length, limits.max_length));
            assert!(comment.contains(&text), "{}: {text}", field.full_name());
            count += 1;
        }
        if limits.max_items > 0 {
            let text = said(limits.min_items, limits.max_items);
            assert!(comment.contains(&text), "{}: {text}", field.full_name());
            count += 1;
        }
    }
    assert!(count > 0);
}
