//! One operation: an RPC at one of its bindings.

use serde_json::{Value, json};

use super::{
    answer,
    binding::{Access, Binding},
    comment, errors, example, parameter,
    schema::{self, Behavior, Purpose, Schemas},
};
use crate::routing::binding::{self, BodyRule};

/// The Operation Object of a binding.
///
/// # Errors
/// If an option of the RPC is not right.
pub fn describe(binding: &Binding, schemas: &mut Schemas) -> anyhow::Result<Value> {
    let method = &binding.method;
    let service = method.parent_service();
    let text = comment::of(&service.parent_file(), method.path());
    let errors = errors::of(method)?;
    let access = binding.access(&errors);
    let mut operation = json!({
        "operationId": id(binding),
        "tags": [service.name()],
        "parameters": parameter::all(binding, schemas),
        "responses": answer::all(binding, errors, access, schemas),
        "security": security(access),
    });
    if !text.is_empty() {
        operation["summary"] = json!(comment::summary(&text));
        operation["description"] = json!(comment::without_errors(&text));
    }
    if let Some(body) = request_body(binding, schemas) {
        operation["requestBody"] = body;
    }
    Ok(operation)
}

/// The name by which generated clients call it.
fn id(binding: &Binding) -> String {
    let method = &binding.method;
    let name = format!("{}_{}", method.parent_service().name(), method.name());
    if binding.index == 0 { name } else { format!("{name}_{}", binding.index + 1) }
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Optional => json!([{}, {"bearer": []}, {"cookie": []}]),
        Access::Token => json!([{"bearer": []}, {"cookie": []}]),
    }
}

fn request_body(binding: &Binding, schemas: &mut Schemas) -> Option<Value> {
    let input = binding.method.input();
    let (schema, required) = match &binding.body {
        BodyRule::None => return None,
        BodyRule::Whole => {
            let in_path: Vec<_> =
                input.fields().filter(|field| binding.in_path.iter().any(|name| name == field.name())).collect();
            let must = input.fields().any(|field| schema::is(&field, Behavior::Required) && !in_path.contains(&field));
            (schemas.body(&input, &in_path), must)
        }
        BodyRule::Field(field) => {
            let updates = input.get_field_by_name("update_mask").is_some();
            let purpose = if updates { Purpose::Update } else { Purpose::Request };
            (schemas.field(field, purpose), schema::is(field, Behavior::Required))
        }
    };
    let mut json = json!({"schema": schema});
    if let Some(example) = example::request(binding.method.full_name()) {
        json["example"] = example;
    }
    let mut content = json!({"application/json": json});
    if binding::takes_form(&binding.method, &binding.body) {
        content["application/x-www-form-urlencoded"] = json!({"schema": schema});
    }
    Some(json!({"required": required, "content": content}))
}
