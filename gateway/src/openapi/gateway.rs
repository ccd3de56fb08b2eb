//! The gateway's own endpoints, which no RPC serves.

use serde_json::{Value, json};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use super::{components, contract::DocumentedError, response};

const TAG: &str = "Gateway";

/// Returns the tag that groups these operations.
#[must_use]
pub fn tag() -> Value {
    json!({"name": TAG, "description": "The gateway itself. Open to anyone."})
}

/// Returns the operations and their paths. The method of each is GET.
#[must_use]
pub fn operations() -> Vec<(&'static str, Value)> {
    let serving = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "SERVING"}},
    });
    let mut ready = operation("Readyz", "Reports whether the services behind the gateway are available", &serving);
    let description = "a service is not available; the message names it.".to_owned();
    let unavailable = DocumentedError { code: Code::Unavailable, reason: ErrorReason::BackendUnavailable, description };
    ready["responses"]["503"] = response::error_response(503, &[unavailable]);
    vec![
        ("/healthz", operation("Healthz", "Reports that the gateway is running", &serving)),
        ("/readyz", ready),
        ("/.well-known/oauth-authorization-server", oauth_metadata()),
        ("/openapi.json", file("OpenApi", "Returns this document")),
        ("/service_config.json", file("ServiceConfig", "Returns the service config for clients over gRPC")),
    ]
}

fn oauth_metadata() -> Value {
    let url = json!({"type": "string", "format": "uri"});
    let names = json!({"type": "array", "items": {"type": "string"}});
    let metadata = json!({
        "type": "object",
        "required": ["issuer", "response_types_supported"],
        "properties": {
            "issuer": url,
            "token_endpoint": url,
            "token_endpoint_auth_methods_supported": names,
            "device_authorization_endpoint": url,
            "revocation_endpoint": url,
            "revocation_endpoint_auth_methods_supported": names,
            "introspection_endpoint": url,
            "jwks_uri": url,
            "grant_types_supported": names,
            "response_types_supported": names,
            "scopes_supported": names,
            "service_documentation": url,
        },
    });
    operation("OAuthMetadata", "Returns the endpoints of OAuth 2.0 and what they support (RFC 8414)", &metadata)
}

/// Returns the operation of a JSON file with an entity tag.
fn file(name: &str, summary: &str) -> Value {
    let mut file = operation(name, summary, &json!({"type": "object"}));
    file["parameters"] =
        json!([components::parameter(components::IF_NONE_MATCH), components::parameter(components::REQUEST_ID)]);
    file["responses"]["200"]["headers"]["ETag"] = components::header("ETag");
    file["responses"]["304"] = json!({
        "description": "The resource has not changed.",
        "headers": {
            "ETag": components::header("ETag"),
            components::REQUEST_ID: components::header(components::REQUEST_ID),
        },
    });
    file
}

fn operation(name: &str, summary: &str, schema: &Value) -> Value {
    let mut operation = json!({
        "operationId": format!("{TAG}_{name}"),
        "tags": [TAG],
        "summary": summary,
        "parameters": [components::parameter(components::REQUEST_ID)],
        "security": [],
        "responses": {"200": {
            "description": "OK.",
            "headers": {components::REQUEST_ID: components::header(components::REQUEST_ID)},
            "content": {"application/json": {"schema": schema}},
        }},
    });
    for (http_code, code, reason, description) in response::HEAD_ERRORS {
        let error = DocumentedError { code, reason, description: description.to_owned() };
        operation["responses"][http_code.to_string()] = response::error_response(http_code, &[error]);
    }
    operation
}
