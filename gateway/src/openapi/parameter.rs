//! Path variables, query parameters and headers.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    binding::Binding,
    path::PathParameter,
    schema::{self, Behavior, Purpose, Schemas},
    shared,
};
use crate::{codec::well_known, routing::binding::BodyRule, semantics::etag};

/// All parameters of an operation.
pub fn all(binding: &Binding, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters: Vec<_> = binding.parameters.iter().map(|parameter| in_path(parameter, schemas)).collect();
    if !matches!(binding.body, BodyRule::Whole) {
        let mut fields = Vec::new();
        collect(binding, &binding.method.input(), &mut Vec::new(), &mut fields);
        parameters.extend(fields.iter().filter_map(|path| in_query(binding, path, schemas)));
    }
    if binding.is_login() {
        parameters.push(shared::cookie_mode());
    }
    parameters.extend(headers(binding).into_iter().map(shared::parameter));
    parameters
}

fn in_path(parameter: &PathParameter, schemas: &mut Schemas) -> Value {
    let name = &parameter.name;
    let Some(field) = &parameter.field else {
        return json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}});
    };
    let schema = schemas.field(field, Purpose::Request);
    let mut parameter = json!({"in": "path", "name": name, "required": true, "schema": schema});
    describe(&mut parameter, field);
    parameter
}

/// The paths of the fields that a query can give, those of messages in the request too: as
/// [`crate::codec::parameter::FieldPath::find`] finds them.
fn collect(
    binding: &Binding,
    of: &MessageDescriptor,
    parents: &mut Vec<FieldDescriptor>,
    found: &mut Vec<Vec<FieldDescriptor>>,
) {
    for field in of.fields().filter(|field| !schema::is(field, Behavior::OutputOnly)) {
        if parents.is_empty() && matches!(&binding.body, BodyRule::Field(body) if *body == field) {
            continue;
        }
        match field.kind() {
            _ if field.is_map() => {}
            Kind::Message(inner) if !well_known::is(&inner) => {
                // A message in itself could go on for ever.
                let is_within = parents.iter().any(|parent| parent.kind() == field.kind());
                if !field.is_list() && !is_within && inner != binding.method.input() {
                    parents.push(field);
                    collect(binding, &inner, parents, found);
                    parents.pop();
                }
            }
            Kind::Message(inner) if !well_known::is_text(&inner) => {}
            _ => found.push(parents.iter().cloned().chain([field]).collect()),
        }
    }
}

/// A field that the query can give, unless the path does.
fn in_query(binding: &Binding, path: &[FieldDescriptor], schemas: &mut Schemas) -> Option<Value> {
    let (field, parents) = path.split_last()?;
    let spelt = |name: fn(&FieldDescriptor) -> &str| path.iter().map(name).collect::<Vec<_>>().join(".");
    if binding.in_path.contains(&spelt(FieldDescriptor::name)) {
        return None;
    }
    let schema = schemas.field(field, Purpose::Request);
    let mut parameter = json!({"in": "query", "name": spelt(FieldDescriptor::json_name), "schema": schema});
    if parents.is_empty() && schema::is(field, Behavior::Required) {
        parameter["required"] = json!(true);
    }
    describe(&mut parameter, field);
    Some(parameter)
}

fn describe(parameter: &mut Value, field: &FieldDescriptor) {
    let description = schema::description(field);
    if !description.is_empty() {
        parameter["description"] = json!(description);
    }
}

/// The headers that mean something for an operation.
fn headers(binding: &Binding) -> Vec<&'static str> {
    let input = binding.method.input();
    let mut headers = vec![shared::REQUEST_ID, shared::REQUEST_TIMEOUT];
    if binding.takes_if_match() {
        headers.push(shared::IF_MATCH);
    }
    if binding.verb == "get" && etag::tag_field(&binding.method.output()).is_some() {
        headers.push(shared::IF_NONE_MATCH);
    }
    if binding.may_be_minimal() {
        headers.push(shared::PREFER);
    }
    if text_field(&input, "request_id") {
        headers.push(shared::IDEMPOTENCY_KEY);
    }
    if binding.method.is_server_streaming() && text_field(&input, "sync_token") {
        headers.push(shared::LAST_EVENT_ID);
    }
    headers
}

fn text_field(of: &MessageDescriptor, name: &str) -> bool {
    of.get_field_by_name(name).is_some_and(|field| field.kind() == Kind::String && !field.is_list())
}
