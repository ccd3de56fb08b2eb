//! Operations: one binding of an RPC, with its parameters and request body.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    binding::{Authentication, Binding, PathParameter},
    comment, components, contract, example, response,
    schema::{self, Behavior, Purpose, Schemas},
};
use crate::{
    codec::well_known,
    routing::binding::{self, BodyRule, Forms},
};

/// Returns the Operation Object of a binding.
///
/// # Errors
/// If an option of the RPC is invalid.
pub fn describe(binding: &Binding, schemas: &mut Schemas) -> anyhow::Result<Value> {
    let method = &binding.method;
    let service = method.parent_service();
    let comment = comment::leading(&service.parent_file(), method.path());
    let errors = contract::errors(method)?;
    let authentication = binding.authentication(&errors);
    let scope = contract::scope(method).filter(|_| authentication == Authentication::Required);
    let mut operation = json!({
        "operationId": operation_id(binding),
        "tags": [service.name()],
        "parameters": parameters(binding, schemas),
        "responses": response::responses(binding, errors, authentication, schemas),
        "security": security(authentication, scope.as_deref()),
    });
    if !comment.is_empty() {
        operation["summary"] = json!(comment::summary(&comment));
        let scope = scope.map(|scope| format!("\n\nRequires the scope `{scope}`.")).unwrap_or_default();
        operation["description"] = json!(comment::without_errors(&comment) + &scope);
    }
    if let Some(body) = request_body(binding, schemas) {
        operation["requestBody"] = body;
    }
    Ok(operation)
}

/// Returns the id of the operation, from which generated clients derive the name of its method.
fn operation_id(binding: &Binding) -> String {
    let method = &binding.method;
    let name = format!("{}_{}", method.parent_service().name(), method.name());
    if binding.index == 0 { name } else { format!("{name}_{}", binding.index + 1) }
}

/// Returns the alternative ways to authenticate, each with the scope that the token must have.
fn security(authentication: Authentication, scope: Option<&str>) -> Value {
    let scopes: Vec<_> = scope.into_iter().collect();
    match authentication {
        Authentication::None => json!([]),
        Authentication::Optional => json!([{}, {"bearer": scopes}, {"cookie": scopes}]),
        Authentication::Required => json!([{"bearer": scopes}, {"cookie": scopes}]),
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn request_body(binding: &Binding, schemas: &mut Schemas) -> Option<Value> {
    let input = binding.method.input();
    let (schema, required) = match &binding.body {
        BodyRule::None => return None,
        BodyRule::Whole => {
            let path_fields: Vec<_> =
                input.fields().filter(|field| binding.path_fields.iter().any(|name| name == field.name())).collect();
            let has_required_field = input
                .fields()
                .any(|field| schema::has_behavior(&field, Behavior::Required) && !path_fields.contains(&field));
            (schemas.body(&input, &path_fields), has_required_field)
        }
        BodyRule::Field(field) => {
            let is_update = input.get_field_by_name("update_mask").is_some();
            let purpose = if is_update { Purpose::Update } else { Purpose::Request };
            (schemas.field(field, purpose), schema::has_behavior(field, Behavior::Required))
        }
    };
    if binding::upload_field(&binding.method, &binding.body).is_some() {
        let file = json!({"type": "string", "format": "binary", "description": "The file, of any media type."});
        return Some(json!({"required": true, "content": {"application/octet-stream": {"schema": file}}}));
    }
    let mut json = json!({"schema": schema});
    if let Some(example) = example::request(binding.method.full_name()) {
        json["example"] = example;
    }
    let content = match binding::forms(&binding.method, &binding.body) {
        Forms::Refused => json!({"application/json": json}),
        Forms::Accepted => json!({"application/json": json, FORM: {"schema": schema}}),
        Forms::OAuth => json!({FORM: json}),
    };
    Some(json!({"required": required, "content": content}))
}

/// Returns all parameters of an operation.
fn parameters(binding: &Binding, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters: Vec<_> =
        binding.path_parameters.iter().map(|parameter| path_parameter(parameter, schemas)).collect();
    if !matches!(binding.body, BodyRule::Whole) {
        let mut field_paths = Vec::new();
        collect_query_fields(binding, &binding.method.input(), &mut Vec::new(), &mut field_paths);
        parameters.extend(field_paths.iter().filter_map(|field_path| query_parameter(binding, field_path, schemas)));
    }
    if binding.returns_tokens() {
        parameters.push(components::cookie_mode());
    }
    parameters.extend(header_names(binding).into_iter().map(components::parameter));
    parameters
}

fn path_parameter(parameter: &PathParameter, schemas: &mut Schemas) -> Value {
    let name = &parameter.name;
    let Some(field) = &parameter.field else {
        return json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}});
    };
    let schema = schemas.field(field, Purpose::Request);
    let mut parameter = json!({"in": "path", "name": name, "required": true, "schema": schema});
    add_description(&mut parameter, field);
    parameter
}

/// Collects the paths of the fields of `message` and of its nested messages that can be query parameters. They are the
/// fields that [`crate::codec::parameter::FieldPath::find`] accepts.
fn collect_query_fields(
    binding: &Binding,
    message: &MessageDescriptor,
    parents: &mut Vec<FieldDescriptor>,
    field_paths: &mut Vec<Vec<FieldDescriptor>>,
) {
    for field in message.fields().filter(|field| !schema::has_behavior(field, Behavior::OutputOnly)) {
        if parents.is_empty() && matches!(&binding.body, BodyRule::Field(body) if *body == field) {
            continue;
        }
        match field.kind() {
            _ if field.is_map() => {}
            Kind::Message(inner) if !well_known::is_well_known(&inner) => {
                // A recursive message has infinitely many field paths.
                let is_recursive = parents.iter().any(|parent| parent.kind() == field.kind());
                if !field.is_list() && !is_recursive && inner != binding.method.input() {
                    parents.push(field);
                    collect_query_fields(binding, &inner, parents, field_paths);
                    parents.pop();
                }
            }
            Kind::Message(inner) if !well_known::has_string_mapping(&inner) => {}
            _ => field_paths.push(parents.iter().cloned().chain([field]).collect()),
        }
    }
}

/// Returns the query parameter of a field, or `None` if the field is bound to the path.
fn query_parameter(binding: &Binding, field_path: &[FieldDescriptor], schemas: &mut Schemas) -> Option<Value> {
    let (field, parents) = field_path.split_last()?;
    let join_names = |name: fn(&FieldDescriptor) -> &str| field_path.iter().map(name).collect::<Vec<_>>().join(".");
    if binding.path_fields.contains(&join_names(FieldDescriptor::name)) {
        return None;
    }
    let schema = schemas.field(field, Purpose::Request);
    let mut parameter = json!({"in": "query", "name": join_names(FieldDescriptor::json_name), "schema": schema});
    if parents.is_empty() && schema::has_behavior(field, Behavior::Required) {
        parameter["required"] = json!(true);
    }
    add_description(&mut parameter, field);
    Some(parameter)
}

fn add_description(parameter: &mut Value, field: &FieldDescriptor) {
    let description = schema::description(field);
    if !description.is_empty() {
        parameter["description"] = json!(description);
    }
}

/// Returns the names of the request headers that an operation uses.
fn header_names(binding: &Binding) -> Vec<&'static str> {
    let input = binding.method.input();
    let mut headers = vec![components::REQUEST_ID, components::REQUEST_TIMEOUT];
    if binding.accepts_if_match() {
        headers.push(components::IF_MATCH);
    }
    if binding.verb == "get" && binding::etag_field(&binding.method.output()).is_some() {
        headers.push(components::IF_NONE_MATCH);
    }
    if binding.can_omit_response_body() {
        headers.push(components::PREFER);
    }
    if has_string_field(&input, "request_id") {
        headers.push(components::IDEMPOTENCY_KEY);
    }
    if binding.method.is_server_streaming() && has_string_field(&input, "sync_token") {
        headers.push(components::LAST_EVENT_ID);
    }
    headers
}

fn has_string_field(message: &MessageDescriptor, name: &str) -> bool {
    message.get_field_by_name(name).is_some_and(|field| field.kind() == Kind::String && !field.is_list())
}
