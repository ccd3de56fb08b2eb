//! Every limit that the contract declares in `taskey.options.v1.limits` is enforced by every RPC.

use gateway::openapi::{
    contract::Limits,
    schema::{self, Behavior},
};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value, prost::Message,
};
use serde_json::json;
use service_kit::testing::{TestDatabase, call_raw, refusal};
use tonic::{Code, Request};

use super::{
    every_rpc::{Forger, claims_of, methods, with},
    processes::Taskey,
};

/// A value that violates a limit, and the path of its field in the request.
struct Violation {
    path: Vec<FieldDescriptor>,
    value: Value,
}

/// Returns one value per limit of a field that violates it.
fn violations_of(field: &FieldDescriptor) -> Vec<Value> {
    let limits = Limits::from_field(field);
    let text = |length: u32| Value::String("x".repeat(length as usize));
    let mut values = Vec::new();
    if limits.max_length > 0 {
        values.push(text(limits.max_length + 1));
    }
    if limits.min_length > 0 {
        values.push(text(limits.min_length - 1));
    }
    if limits.non_negative {
        values.push(Value::I32(-1));
    }
    if limits.uuid {
        values.push(text(8));
    }
    if field.is_list() {
        values = values.into_iter().map(|value| Value::List(vec![value])).collect();
    }
    if limits.max_items > 0 {
        let item = |number| match field.kind() {
            Kind::Message(descriptor) => Value::Message(DynamicMessage::new(descriptor)),
            _ => Value::String(format!("item {number}")),
        };
        values.push(Value::List((0..=limits.max_items).map(item).collect()));
    }
    if limits.min_items > 0 {
        values.push(Value::List(Vec::new()));
    }
    values
}

/// Finds all violations of a message, including nested messages.
fn find_violations(descriptor: &MessageDescriptor, parents: &[FieldDescriptor], violations: &mut Vec<Violation>) {
    let is_update =
        parents.last().is_some_and(|parent| parent.parent_message().get_field_by_name("update_mask").is_some());
    // Immutable fields of an update are excluded: the mask is refused before their value is checked.
    for field in descriptor.fields().filter(|field| !(is_update && schema::has_behavior(field, Behavior::Immutable))) {
        let path: Vec<_> = parents.iter().cloned().chain([field.clone()]).collect();
        violations.extend(violations_of(&field).into_iter().map(|value| Violation { path: path.clone(), value }));
        if let Kind::Message(inner) = field.kind()
            && inner.full_name().starts_with("taskey.")
        {
            find_violations(&inner, &path, violations);
        }
    }
}

/// Returns a message with only the value at the path, and with an update mask for it, if there is one.
fn message(descriptor: &MessageDescriptor, path: &[FieldDescriptor], value: &Value) -> DynamicMessage {
    let (first, rest) = path.split_first().expect("a path has a field");
    let mut outer = DynamicMessage::new(descriptor.clone());
    let inner = match first.kind() {
        Kind::Message(inner) if !rest.is_empty() => Value::Message(message(&inner, rest, value)),
        _ => value.clone(),
    };
    let is_element = first.is_list() && !rest.is_empty();
    outer.set_field(first, if is_element { Value::List(vec![inner]) } else { inner });
    if let (Some(mask), [field]) = (descriptor.get_field_by_name("update_mask"), rest) {
        let Kind::Message(kind) = mask.kind() else { unreachable!("a mask is a message") };
        let mut paths = DynamicMessage::new(kind);
        paths.set_field_by_name("paths", Value::List(vec![Value::String(field.name().to_owned())]));
        outer.set_field(&mask, Value::Message(paths));
    }
    outer
}

/// Returns a path such as `writes[0].create.task.title`.
fn name(path: &[FieldDescriptor]) -> String {
    let (last, parents) = path.split_last().expect("a path has a field");
    let parents = parents.iter().map(|field| format!("{}{}.", field.name(), if field.is_list() { "[0]" } else { "" }));
    parents.collect::<String>() + last.name()
}

async fn assert_enforced(taskey: &Taskey, token: &str, method: &MethodDescriptor, violation: &Violation) {
    let service = method.parent_service();
    let program = if service.package_name() == "taskey.task.v1" { "task" } else { "auth" };
    let mut request = Request::new(message(&method.input(), &violation.path, &violation.value).encode_to_vec());
    request.metadata_mut().insert("authorization", token.parse().expect("ASCII"));
    let path = format!("/{}/{}", service.full_name(), method.name());
    let field = name(&violation.path);
    let called = call_raw(&taskey.channel(program), &path, request).await;
    let (code, reason, fields) = refusal(&called.expect_err(&field));
    let is_named = |named: &String| *named == field || named.starts_with(&format!("{field}["));
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"), "{path} {field}");
    assert!(fields.iter().any(is_named), "{path} {field} {:?}: {fields:?}", violation.value);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_declared_limit_is_enforced() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let claims = claims_of(&taskey.sign_up_and_log_in("ann@example.com").await.access_token);
    Taskey::grant_role(&database, "ann@example.com", "admin");
    let forger = Forger::new(&database);
    let token = forger.sign(&forger.header(), &with(claims, "roles", Some(json!(["admin", "verifier"]))));
    let mut count = 0;
    for method in methods() {
        let mut violations = Vec::new();
        find_violations(&method.input(), &[], &mut violations);
        for violation in &violations {
            assert_enforced(&taskey, &token, &method, violation).await;
        }
        count += violations.len();
    }
    assert!(count > 50, "{count}");
}
