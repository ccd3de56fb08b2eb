//! What the gateway answers itself, without an RPC.

use serde_json::{Value, json};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{answer, errors::DocumentedError, shared};

const TAG: &str = "Gateway";

/// The group of these operations.
#[must_use]
pub fn tag() -> Value {
    json!({"name": TAG, "description": "The gateway itself. Open to anyone."})
}

/// The operations and their paths; each is a GET.
#[must_use]
pub fn operations() -> Vec<(&'static str, Value)> {
    let serving = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "SERVING"}},
    });
    let mut ready = operation("Readyz", "Reports whether the services behind the gateway are available", &serving);
    let text = "a service is not available; the message names it.".to_owned();
    let away = DocumentedError { code: Code::Unavailable, reason: ErrorReason::BackendUnavailable, text };
    ready["responses"]["503"] = answer::refused(503, &[away]);
    let mut document = operation("OpenApi", "Returns this document", &json!({"type": "object"}));
    document["parameters"] = json!([shared::parameter(shared::IF_NONE_MATCH), shared::parameter(shared::REQUEST_ID)]);
    document["responses"]["200"]["headers"]["ETag"] = shared::header("ETag");
    document["responses"]["304"] = json!({
        "description": "The resource has not changed.",
        "headers": {"ETag": shared::header("ETag"), shared::REQUEST_ID: shared::header(shared::REQUEST_ID)},
    });
    vec![
        ("/healthz", operation("Healthz", "Reports that the gateway is running", &serving)),
        ("/readyz", ready),
        ("/openapi.json", document),
    ]
}

fn operation(name: &str, summary: &str, schema: &Value) -> Value {
    json!({
        "operationId": format!("{TAG}_{name}"),
        "tags": [TAG],
        "summary": summary,
        "parameters": [shared::parameter(shared::REQUEST_ID)],
        "security": [],
        "responses": {"200": {
            "description": "OK.",
            "headers": {shared::REQUEST_ID: shared::header(shared::REQUEST_ID)},
            "content": {"application/json": {"schema": schema}},
        }},
    })
}
