//! Converts gRPC statuses to HTTP errors. All HTTP errors have this format.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;
use serde_json::{Map, Value, json};
use service_kit::{
    server::{
        connection::Rejection,
        request_id::{REQUEST_ID, RequestId},
    },
    status::{ApiError, reason_name},
};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status, body::Body};
use tonic_types::{StatusExt, pb};

use crate::{http::response, routing::router::MatchError};

/// When to retry a request that was rejected because its client has too many of them in progress.
const REJECTION_RETRY_AFTER: Duration = Duration::from_secs(1);

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const REQUEST_INFO: &str = "type.googleapis.com/google.rpc.RequestInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// A request that failed.
#[derive(Debug)]
pub struct HttpError {
    status: Status,
    /// Replaces the HTTP status code that is derived from `status`.
    code_override: Option<StatusCode>,
    headers: HeaderMap,
}

impl From<Status> for HttpError {
    fn from(status: Status) -> Self {
        Self { status, code_override: None, headers: HeaderMap::new() }
    }
}

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> Self {
        Status::from(error).into()
    }
}

impl From<MatchError> for HttpError {
    fn from(error: MatchError) -> Self {
        match error {
            MatchError::NotFound => {
                ApiError::new(Code::NotFound, ErrorReason::RouteNotFound, "there is no route for this path").into()
            }
            MatchError::MethodNotAllowed(allowed) => Self::method_not_allowed(&allowed),
            MatchError::BadEncoding => {
                let message = "the path is not percent-encoded UTF-8";
                ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message).into()
            }
        }
    }
}

/// The body of the response, in the format of Google APIs.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: u16,
    status: &'static str,
    message: &'a str,
    details: Vec<Value>,
}

impl HttpError {
    /// Creates the error 405 with the methods that are allowed on the path.
    #[must_use]
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("this path only accepts {allowed}");
        let error = ApiError::new(Code::Unimplemented, ErrorReason::MethodUnknown, message);
        let error = Self::from(error).with_status_code(StatusCode::METHOD_NOT_ALLOWED);
        match HeaderValue::from_str(&allowed) {
            Ok(allowed) => error.with_header(header::ALLOW, allowed),
            Err(_) => error,
        }
    }

    /// Replaces the HTTP status code that is derived from the gRPC status.
    #[must_use]
    pub fn with_status_code(self, code: StatusCode) -> Self {
        Self { code_override: Some(code), ..self }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a cookie to the response.
    #[must_use]
    pub fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.headers.append(header::SET_COOKIE, cookie);
        self
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Reports whether the call failed with `UNAUTHENTICATED`.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.status.code() == Code::Unauthenticated
    }

    /// Reports whether the call failed because its tokens are not valid. A wrong second factor leaves them valid.
    #[must_use]
    pub fn refuses_tokens(&self) -> bool {
        let has_reason = |reason| self.has_reason(reason);
        self.is_unauthenticated()
            && ![ErrorReason::CodeInvalid, ErrorReason::PasskeyInvalid].into_iter().any(has_reason)
    }

    /// Reports whether the call failed because the access token has expired.
    #[must_use]
    pub fn is_token_expired(&self) -> bool {
        self.is_unauthenticated() && self.has_reason(ErrorReason::TokenExpired)
    }

    fn has_reason(&self, reason: ErrorReason) -> bool {
        self.status.get_details_error_info().is_some_and(|info| info.reason == reason_name(reason))
    }

    /// Creates the response. Details whose types are in `pool` are written as JSON.
    #[must_use]
    pub fn into_response(self, pool: &DescriptorPool, id: &RequestId) -> Response<Body> {
        let details = details(&self.status, id);
        let code = self.http_code(&details);
        let mut response = response::json(code, self.body(pool, code, &details));
        response.headers_mut().extend(self.headers);
        match code {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, retry_after(&details).into());
            }
            _ => {}
        }
        response
    }

    /// Returns the body of the response. Used for errors in a stream, whose status code has already been sent.
    #[must_use]
    pub fn to_json(&self, pool: &DescriptorPool, id: &RequestId) -> Vec<u8> {
        let details = details(&self.status, id);
        self.body(pool, self.http_code(&details), &details)
    }

    fn http_code(&self, details: &[prost_types::Any]) -> StatusCode {
        let reason = find_detail::<pb::ErrorInfo>(details, ERROR_INFO).map(|info| info.reason).unwrap_or_default();
        match self.code_override {
            Some(code) => code,
            None if reason == reason_name(ErrorReason::MessageTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            None => mapping(self.status.code()).0,
        }
    }

    fn body(&self, pool: &DescriptorPool, code: StatusCode, details: &[prost_types::Any]) -> Vec<u8> {
        let error = ErrorFields {
            code: code.as_u16(),
            status: mapping(self.status.code()).1,
            message: self.status.message(),
            details: details.iter().map(|detail| detail_to_json(pool, detail)).collect(),
        };
        serde_json::to_vec(&ErrorBody { error }).expect("strings and JSON values can be serialized")
    }
}

/// Creates the response to a request that is rejected before it reaches the gateway.
#[must_use]
pub fn rejected_request(rejection: Rejection) -> Response<Bytes> {
    let malformed = |message| ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, message);
    let exhausted = |reason, message| ApiError::new(Code::ResourceExhausted, reason, message);
    let (code, error) = match rejection {
        Rejection::Unparsable(code @ StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
            (code, exhausted(ErrorReason::MessageTooLarge, "the headers are too many or too large"))
        }
        Rejection::Unparsable(code @ StatusCode::URI_TOO_LONG) => (code, malformed("the path and query are too long")),
        Rejection::Unparsable(code) => (code, malformed("the request is not well-formed HTTP/1.1")),
        Rejection::Plaintext => {
            (StatusCode::BAD_REQUEST, malformed("this port requires TLS: use https:// instead of http://"))
        }
        Rejection::InvalidHost => {
            let message = "the request must have exactly one valid `Host`, which is equal to `:authority` over HTTP/2";
            (StatusCode::BAD_REQUEST, malformed(message))
        }
        Rejection::TooManyRequests => {
            let message = "too many requests of this client are in progress";
            let error = exhausted(ErrorReason::Overloaded, message).retry_after(REJECTION_RETRY_AFTER);
            (StatusCode::TOO_MANY_REQUESTS, error)
        }
    };
    let id = RequestId::from_headers(&HeaderMap::new());
    let error = HttpError::from(error).with_status_code(code);
    let mut response = Response::new(error.to_json(&crate::contract(), &id).into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if code == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(header::RETRY_AFTER, REJECTION_RETRY_AFTER.as_secs().into());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REQUEST_ID, id.as_header().clone());
    response
}

/// Returns the HTTP status code and the name of a gRPC status code, as documented in google/rpc/code.proto.
pub(crate) fn mapping(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "OK"),
        // HTTP has no standard code for this; nginx and google.rpc use 499.
        Code::Cancelled => (StatusCode::from_u16(499).expect("499 has three digits"), "CANCELLED"),
        Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        Code::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "FAILED_PRECONDITION"),
        Code::Aborted => (StatusCode::CONFLICT, "ABORTED"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "OUT_OF_RANGE"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "DATA_LOSS"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
    }
}

/// Returns the details of a status. Adds the request id if it is missing.
fn details(status: &Status, id: &RequestId) -> Vec<prost_types::Any> {
    let mut details = pb::Status::decode(status.details()).unwrap_or_default().details;
    if find_detail::<pb::RequestInfo>(&details, REQUEST_INFO).is_none() {
        let info = pb::RequestInfo { request_id: id.as_str().to_owned(), serving_data: String::new() };
        details.push(prost_types::Any { type_url: REQUEST_INFO.to_owned(), value: info.encode_to_vec() });
    }
    details
}

fn find_detail<M: Message + Default>(details: &[prost_types::Any], type_url: &str) -> Option<M> {
    let detail = details.iter().find(|detail| detail.type_url == type_url)?;
    M::decode(&*detail.value).ok()
}

/// Returns the retry delay in whole seconds, rounded up, at least 1.
fn retry_after(details: &[prost_types::Any]) -> u64 {
    let delay =
        find_detail::<pb::RetryInfo>(details, RETRY_INFO).and_then(|info| Duration::try_from(info.retry_delay?).ok());
    delay.map_or(1, |delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

/// Converts a `google.protobuf.Any` to JSON: its fields, or its bytes in base64 if its type is unknown.
fn detail_to_json(pool: &DescriptorPool, detail: &prost_types::Any) -> Value {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default();
    let message =
        pool.get_message_by_name(name).and_then(|descriptor| DynamicMessage::decode(descriptor, &*detail.value).ok());
    let fields = message.and_then(|message| {
        message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).ok()
    });
    let mut value = match fields {
        Some(Value::Object(fields)) => fields,
        Some(other) => Map::from_iter([("value".to_owned(), other)]),
        None => Map::from_iter([("value".to_owned(), json!(BASE64_STANDARD.encode(&detail.value)))]),
    };
    value.insert("@type".to_owned(), json!(detail.type_url));
    Value::Object(value)
}
