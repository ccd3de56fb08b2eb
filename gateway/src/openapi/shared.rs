//! What operations refer to: headers, the ways to say who calls, and what holds for all of them.

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

Every operation is an RPC of the gRPC services too, on the same port. Names in JSON and in queries are taken in \
`lowerCamelCase`, as they are written here, and in the `snake_case` of the proto; what is unknown is refused. Integers \
of 64 bits are strings. HEAD is answered wherever GET is.

Every refusal has the same shape, and a `reason` that a program can branch on.";

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
    let request_id = "Names the request in the logs of all services. One is made if there is none.";
    let timeout = "How many seconds the answer may take, such as `2.5`, if that is less than the server allows.";
    let if_match = "The entity tag of the version that the request is about, or `*` for any. Another version is 412.";
    let if_none_match = "Entity tags of the versions that are known: one of them is answered with 304.";
    let key = "A UUID that the client makes up for this request, so that sending it again is safe: within 24 hours the \
               first answer is given again. The same as `requestId`.";
    let event = "The `id` of the last event, which is its sync token: the stream goes on behind it. Browsers send it \
                 by themselves.";
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
        "description": "With `true` the tokens are put into cookies that no script can read, and are empty in the answer.",
        "schema": {"const": "true"},
    })
}

/// The headers of answers.
#[must_use]
pub fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        REQUEST_ID: text("Names the request in the logs of all services."),
        IDEMPOTENT_REPLAYED: text("`true` if the same request has come before, and this is what was answered then."),
        PREFERENCE_APPLIED: text("`return=minimal`"),
        "ETag": text("The `etag` of the resource: a strong entity tag."),
        "WWW-Authenticate": text("`Bearer error=\"invalid_token\"`"),
        "Retry-After": {
            "description": "How many seconds to wait before the next try.",
            "schema": {"type": "integer", "minimum": 1},
        },
    })
}

/// The ways to say who calls.
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
