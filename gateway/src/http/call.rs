//! The call of an RPC on behalf of an HTTP request.

use http::{HeaderMap, request};
use prost_reflect::DynamicMessage;
use service_kit::server::request_id::RequestId;
use tokio::time::Instant;

use crate::routing::binding::Route;

/// A call that is ready to be sent. It may contain tokens, so it does not implement `Debug`.
#[derive(Clone)]
pub struct Call<'a> {
    /// The HTTP request without its body.
    pub request: &'a request::Parts,
    /// The route, which identifies the RPC.
    pub route: &'a Route,
    /// The request id in logs and errors.
    pub id: &'a RequestId,
    /// The deadline of the response, or of the start of a stream.
    pub deadline: Instant,
    /// The request message.
    pub message: DynamicMessage,
    /// The metadata of the call.
    pub metadata: HeaderMap,
}
