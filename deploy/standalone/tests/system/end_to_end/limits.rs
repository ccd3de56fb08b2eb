//! The limits that the contract declares in `taskey.options.v1.limits` are enforced, each for each RPC.

use gateway::openapi::{
    options::Limits,
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

/// A value that breaks a limit, in a field that is reached by the fields before it.
struct Breach {
    path: Vec<FieldDescriptor>,
    value: Value,
}

/// Returns a value that breaks each limit of a field.
fn breaches(field: &FieldDescriptor) -> Vec<Value> {
    let limits = Limits::of(field);
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
            Kind::Message(of) => Value::Message(DynamicMessage::new(of)),
            _ => Value::String(format!("item {number}")),
        };
        values.push(Value::List((0..=limits.max_items).map(item).collect()));
    }
    if limits.min_items > 0 {
        values.push(Value::List(Vec::new()));
    }
    values
}

/// Finds all breaches of a request, those in its messages too.
fn find(of: &MessageDescriptor, parents: &[FieldDescriptor], found: &mut Vec<Breach>) {
    let is_update =
        parents.last().is_some_and(|parent| parent.parent_message().get_field_by_name("update_mask").is_some());
    // The mask is refused before the value of such a field is looked at.
    for field in of.fields().filter(|field| !(is_update && schema::is(field, Behavior::Immutable))) {
        let path: Vec<_> = parents.iter().cloned().chain([field.clone()]).collect();
        found.extend(breaches(&field).into_iter().map(|value| Breach { path: path.clone(), value }));
        if let Kind::Message(inner) = field.kind()
            && inner.full_name().starts_with("taskey.")
        {
            find(&inner, &path, found);
        }
    }
}

/// Returns a message that has nothing but the value at the path, and the mask with which it would be written.
fn message(of: &MessageDescriptor, path: &[FieldDescriptor], value: &Value) -> DynamicMessage {
    let (first, rest) = path.split_first().expect("a path has a field");
    let mut outer = DynamicMessage::new(of.clone());
    let inner = match first.kind() {
        Kind::Message(inner) if !rest.is_empty() => Value::Message(message(&inner, rest, value)),
        _ => value.clone(),
    };
    let is_element = first.is_list() && !rest.is_empty();
    outer.set_field(first, if is_element { Value::List(vec![inner]) } else { inner });
    if let (Some(mask), [field]) = (of.get_field_by_name("update_mask"), rest) {
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

async fn assert_enforced(taskey: &Taskey, token: &str, method: &MethodDescriptor, breach: &Breach) {
    let service = method.parent_service();
    let program = if service.package_name() == "taskey.task.v1" { "task" } else { "auth" };
    let mut request = Request::new(message(&method.input(), &breach.path, &breach.value).encode_to_vec());
    request.metadata_mut().insert("authorization", token.parse().expect("ASCII"));
    let path = format!("/{}/{}", service.full_name(), method.name());
    let field = name(&breach.path);
    let called = call_raw(&taskey.channel(program), &path, request).await;
    let (code, reason, fields) = refusal(&called.expect_err(&field));
    let is_named = |named: &String| *named == field || named.starts_with(&format!("{field}["));
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"), "{path} {field}");
    assert!(fields.iter().any(is_named), "{path} {field} {:?}: {fields:?}", breach.value);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_declared_limit_is_enforced() {
    let database = TestDatabase::sqlite();
    let taskey = Taskey::start(&database).await;
    let claims = claims_of(&taskey.person("ann@example.com").await.access_token);
    let forger = Forger::new(&database);
    let token = forger.sign(&forger.header(), &with(claims, "roles", Some(json!(["admin", "verifier"]))));
    let mut count = 0;
    for method in methods() {
        let mut found = Vec::new();
        find(&method.input(), &[], &mut found);
        for breach in &found {
            assert_enforced(&taskey, &token, &method, breach).await;
        }
        count += found.len();
    }
    assert!(count > 50, "{count}");
}
