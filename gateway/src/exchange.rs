//! Unary calls whose responses are read to the end before they are passed on, whatever the pace of the client.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, response};
use service_kit::status::ApiError;
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    body::{Incomplete, Whole, read_to_end},
    connections::Lease,
    quota::Permit,
    retry::Repeat,
};

/// Makes one unary call and reads its response to the end.
#[derive(Debug)]
pub struct Exchange {
    /// The connection.
    pub lease: Lease,
    /// Whether the call has no effect, so that its response may be refused if there is no memory for it.
    pub is_read: bool,
    /// Maximum size of the response.
    pub max_bytes: usize,
    /// The bytes of the request, then those of the response. Taken by the call.
    pub permit: Option<Permit>,
}

impl Service<Request<Body>> for Exchange {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (is_read, max_bytes, permit) = (self.is_read, self.max_bytes, self.permit.take());
        request.extensions_mut().insert(if is_read { Repeat::Always } else { Repeat::IfUnprocessed });
        let response = self.lease.call(request);
        Box::pin(async move {
            let (parts, body) = response.await.map_err(Status::from_error)?.into_parts();
            let mut permit = permit.ok_or_else(|| ApiError::internal("a call without a permit"))?;
            // The request has been sent.
            permit.clear();
            match read_to_end(body, max_bytes, |bytes| permit.grow_for_response(bytes, is_read)).await {
                Ok(whole) => Ok(respond(parts, whole, Arc::new(permit))),
                Err(Incomplete::TooLarge) => Err(Status::out_of_range("the response is too large")),
                Err(Incomplete::Refused(status)) => Err(status),
                Err(Incomplete::Broken(error)) => Err(Status::from_error(error)),
            }
        })
    }
}

/// Creates a response whose extensions contain the permit.
fn respond(mut parts: response::Parts, whole: Whole, permit: Arc<Permit>) -> Response<Body> {
    parts.extensions.insert(Arc::clone(&permit));
    Response::from_parts(parts, whole.into_body(permit))
}
