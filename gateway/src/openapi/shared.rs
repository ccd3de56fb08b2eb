//! What operations refer to: headers, authentication, and what is the same for all.

use serde_json::{Value, json};

use crate::session::cookie_mode::PARAMETER;

/// The names of the headers of requests, which are those of their parameters too.
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
/// The header of an answer whose body was not wanted.
pub const PREFERENCE_APPLIED: &str = "Preference-Applied";
/// The header of an answer that was given before.
pub const IDEMPOTENT_REPLAYED: &str = "Idempotent-Replayed";
/// See [`REQUEST_ID`].
pub const LAST_EVENT_ID: &str = "Last-Event-ID";

const DESCRIPTION: &str = "A to-do backend.

Every operation is also an RPC of the gRPC services, on the same port. Names in JSON and in queries can be written in \
`lowerCamelCase`, as here, or in the `snake_case` of the proto; unknown names are errors. Integers of 64 bits are \
strings. Every path that supports GET also supports HEAD.

All errors have the same structure, and a `reason` for programs.";

/// What the document says of itself.
#[must_use]
pub fn info() -> Value {
    json!({
        "title": "Taskey",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    })
}

/// A reference to the parameter that is this header.
#[must_use]
pub fn parameter(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// A reference to a header of answers.
#[must_use]
pub fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// The headers of requests.
#[must_use]
pub fn parameters() -> Value {
    let text = |name: &str, description: &str, schema: Value| {
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
    let key = "A UUID that the client generates for this request, so that it can be repeated safely: within 24 hours, a \
               repeated request returns the first response. The same as `requestId`.";
    let event = "The `id` of the last event, which is its sync token: the stream continues after it. Browsers send it \
                 automatically.";
    let prefer = "`return=minimal` asks for 204 without a body (RFC 7240).";
    Value::Object(serde_json::Map::from_iter([
        text(REQUEST_ID, request_id, Value::Null),
        text(REQUEST_TIMEOUT, timeout, json!({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"})),
        text(IF_MATCH, if_match, Value::Null),
        text(IF_NONE_MATCH, if_none_match, Value::Null),
        text(IDEMPOTENCY_KEY, key, Value::Null),
        text(LAST_EVENT_ID, event, Value::Null),
        text(PREFER, prefer, Value::Null),
    ]))
}

/// The parameter by which a login asks for cookies.
#[must_use]
pub fn cookie_mode() -> Value {
    json!({
        "in": "query",
        "name": PARAMETER,
        "description": "If `true`, the tokens are stored in cookies that scripts cannot read, and are empty in the response.",
        "schema": {"const": "true"},
    })
}

/// The headers of answers.
#[must_use]
pub fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        REQUEST_ID: text("The id of the request in the logs of all services."),
        IDEMPOTENT_REPLAYED: text("`true` if the request was executed before, and this is its stored response."),
        PREFERENCE_APPLIED: text("`return=minimal`"),
        "ETag": text("The `etag` of the resource: a strong entity tag."),
        "WWW-Authenticate": text("`Bearer error=\"invalid_token\"`"),
        "Retry-After": {
            "description": "How many seconds to wait before a retry.",
            "schema": {"type": "integer", "minimum": 1},
        },
    })
}

/// How callers authenticate.
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
                            that no script can read (`HttpOnly`, `SameSite=Strict`) instead of the answer. A request \
                            that relies on the cookie and changes something must come from the same origin, or is \
                            refused with 403.",
        },
    })
}
