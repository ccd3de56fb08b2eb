//! A request, and the call that it makes.

use http::{HeaderMap, request};
use prost_reflect::DynamicMessage;
use service_kit::server::request_id::RequestId;
use tokio::time::Instant;

use crate::routing::binding::Route;

/// A call that is ready to be made. It may hold tokens, so it has no `Debug`.
#[derive(Clone)]
pub struct Call<'a> {
    /// The request, but for its body.
    pub request: &'a request::Parts,
    /// The RPC.
    pub route: &'a Route,
    /// What the request is called in logs and errors.
    pub id: &'a RequestId,
    /// When the answer, or the beginning of a stream, must be there.
    pub deadline: Instant,
    /// What is sent.
    pub message: DynamicMessage,
    /// What goes with it.
    pub metadata: HeaderMap,
}
