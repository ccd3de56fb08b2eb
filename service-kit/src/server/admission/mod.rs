//! Admits calls to a server, so that one client leaves room for others: the number of calls, the bytes of requests and
//! the bytes of responses in memory are limited, in total and per client.
//!
//! A call that exceeds a limit is not queued. Its request body fails with RESOURCE_EXHAUSTED / OVERLOADED, so that the
//! service returns that error instead of processing the call.
//!
//! The memory of one client is limited by its share of both budgets, by the flow-control windows of its connections,
//! and by one chunk of a response per stream, which the connection stores beside the counted ones. A response that its
//! client does not read is ended.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::body::{Body as HttpBody, Bytes};
use tonic::body::Body;
use tower::{BoxError, Service};

use crate::{
    network::{Client, rate_limit_key},
    ops::config::LimitArgs,
};

mod call;
mod request_body;
mod response_body;

use call::{Budgets, Call};
use request_body::RequestBody;

/// A service whose calls are admitted.
#[derive(Clone)]
pub(super) struct Admission<S> {
    inner: S,
    budgets: Arc<Budgets>,
}

impl<S> Admission<S> {
    /// Wraps the service of a server. One client may use the `clients`th part of each limit.
    pub(super) fn new(inner: S, limits: &LimitArgs, clients: usize) -> Self {
        Self { inner, budgets: Arc::new(Budgets::new(limits, clients)) }
    }
}

/// Returns the client for which a request counts.
fn client<B>(request: &Request<B>) -> IpAddr {
    let client = request.extensions().get::<Client>();
    rate_limit_key(client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.address))
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = client(&request);
        let admitted = self.budgets.admit(client, request.body().is_end_stream());
        let started = StartOnDrop(admitted.as_ref().ok().cloned());
        let responses = self.budgets.response_bytes(client);
        let response = self.inner.call(request.map(|body| Body::new(RequestBody::new(body, admitted))));
        Box::pin(async move {
            let response = response.await?;
            drop(started);
            Ok(response_body::count(response, responses))
        })
    }
}

/// Releases what the processing of a call uses when its response starts, or when its client has disconnected.
struct StartOnDrop(Option<Call>);

impl Drop for StartOnDrop {
    fn drop(&mut self) {
        if let Some(call) = &self.0 {
            call.start_response();
        }
    }
}
