//! What the gateway answers itself, without an RPC.

use serde_json::{Value, json};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{answer, refusal::ApiError, shared};

const TAG: &str = "Gateway";

/// The group of these operations.
#[must_use]
pub fn tag() -> Value {
    json!({"name": TAG, "description": "What the gateway says of itself. It is open to anyone."})
}

/// The operations and their paths; each is a GET.
#[must_use]
pub fn operations() -> Vec<(&'static str, Value)> {
    let serving = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "SERVING"}},
    });
    let mut ready = operation("Readyz", "Whether the services behind the gateway serve", &serving);
    let text = "a service does not serve; the message names it.".to_owned();
    let away = ApiError { code: Code::Unavailable, reason: ErrorReason::BackendUnavailable, text };
    ready["responses"]["503"] = answer::refused(503, &[away]);
    let mut document = operation("OpenApi", "This document", &json!({"type": "object"}));
    document["parameters"] = json!([shared::parameter(shared::IF_NONE_MATCH), shared::parameter(shared::REQUEST_ID)]);
    document["responses"]["200"]["headers"]["ETag"] = shared::header("ETag");
    document["responses"]["304"] = json!({
        "description": "The version that is known is still the last one.",
        "headers": {"ETag": shared::header("ETag"), shared::REQUEST_ID: shared::header(shared::REQUEST_ID)},
    });
    vec![
        ("/healthz", operation("Healthz", "Whether the gateway is alive", &serving)),
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
            "description": "It is so.",
            "headers": {shared::REQUEST_ID: shared::header(shared::REQUEST_ID)},
            "content": {"application/json": {"schema": schema}},
        }},
    })
}
