//! The objects that operations refer to: parameters, headers and security schemes, and the description of the API.

use serde_json::{Value, json};

use crate::session::cookie_mode::PARAMETER;

/// The name of a request header, and of its parameter in the components.
pub const REQUEST_ID: &str = "X-Request-Id";
/// See [`REQUEST_ID`].
pub const REQUEST_TIMEOUT: &str = "Request-Timeout";
/// See [`REQUEST_ID`].
pub const IF_MATCH: &str = "If-Match";
/// See [`REQUEST_ID`].
pub const IF_NONE_MATCH: &str = "If-None-Match";
/// See [`REQUEST_ID`].
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// See [`REQUEST_ID`].
pub const PREFER: &str = "Prefer";
/// The header of a response that has no body because the client asked for none.
pub const PREFERENCE_APPLIED: &str = "Preference-Applied";
/// The header of a stored response to a repeated request.
pub const IDEMPOTENT_REPLAYED: &str = "Idempotent-Replayed";
/// See [`REQUEST_ID`].
pub const LAST_EVENT_ID: &str = "Last-Event-ID";

const DESCRIPTION: &str = "A to-do backend.

Every operation is also an RPC of the gRPC services, on the same port. Names in JSON and in queries can be written in \
`lowerCamelCase`, as here, or in the `snake_case` of the proto; unknown names are errors. Integers of 64 bits are \
strings. Every path that supports GET also supports HEAD.

All errors have the same structure, and a `reason` for programs.";

/// Returns the Info Object of the document.
#[must_use]
pub fn info() -> Value {
    json!({
        "title": "Taskey",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    })
}

/// Returns a reference to the parameter for a request header.
#[must_use]
pub fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// Returns a reference to a response header.
#[must_use]
pub fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// Returns the parameters for request headers.
#[must_use]
pub fn parameters() -> Value {
    let header_parameter = |name: &str, description: &str, schema: Value| {
        let schema = match schema {
            Value::Null => json!({"type": "string"}),
            schema => schema,
        };
        (name.to_owned(), json!({"in": "header", "name": name, "description": description, "schema": schema}))
    };
    let request_id = "The id of the request in the logs of all services. Generated if it is missing.";
    let timeout =
        "Maximum duration of the request in seconds, such as `2.5`, if it is shorter than the limit of the server.";
    let if_match = "The entity tag of the current version, or `*` for any. Otherwise the response is 412.";
    let if_none_match =
        "Entity tags of versions that the client has. If the current version is one of them, the response is 304.";
    let idempotency_key = "A UUID that the client generates for this request, so that it can be repeated safely: \
                           within 24 hours, a repeated request returns the first response. The same as `requestId`.";
    let last_event_id = "The `id` of the last event, which is its sync token: the stream continues after it. \
                         Browsers send it automatically.";
    let prefer = "`return=minimal` asks for 204 without a body (RFC 7240).";
    Value::Object(serde_json::Map::from_iter([
        header_parameter(REQUEST_ID, request_id, Value::Null),
        header_parameter(REQUEST_TIMEOUT, timeout, json!({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"})),
        header_parameter(IF_MATCH, if_match, Value::Null),
        header_parameter(IF_NONE_MATCH, if_none_match, Value::Null),
        header_parameter(IDEMPOTENCY_KEY, idempotency_key, Value::Null),
        header_parameter(LAST_EVENT_ID, last_event_id, Value::Null),
        header_parameter(PREFER, prefer, Value::Null),
    ]))
}

/// Returns the query parameter that turns on cookie mode for a login or a refresh.
#[must_use]
pub fn cookie_mode() -> Value {
    let description = "If `true`, the tokens are stored in cookies that scripts cannot read, and are empty in the response. A refresh then \
         uses the refresh token in the cookies.";
    json!({"in": "query", "name": PARAMETER, "description": description, "schema": {"const": "true"}})
}

/// Returns the response headers.
#[must_use]
pub fn headers() -> Value {
    let string_header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let replayed = "`true` if the request was executed before, and this is its stored response.";
    json!({
        REQUEST_ID: string_header("The id of the request in the logs of all services."),
        IDEMPOTENT_REPLAYED: string_header(replayed),
        PREFERENCE_APPLIED: string_header("`return=minimal`"),
        "ETag": string_header("The `etag` of the resource: a strong entity tag."),
        "WWW-Authenticate": string_header("`Bearer error=\"invalid_token\"`"),
        "Retry-After": {
            "description": "How many seconds to wait before a retry.",
            "required": true,
            "schema": {"type": "integer", "minimum": 1},
        },
    })
}

/// Returns the ways in which callers can authenticate.
#[must_use]
pub fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The `accessToken` of a login or a refresh.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "__Host-taskey_access",
            "description": "Cookie mode, for browsers: `POST /v1/auth/login?cookie=true` puts the tokens into cookies \
                            that no script can read (`HttpOnly`, `SameSite=Strict`) instead of the response. A request \
                            that is authenticated by the cookie and changes data must come from the same origin; \
                            otherwise the response is 403.",
        },
    })
}
