//! Limits the connections of clients, and rejects requests before they reach the service: requests with an invalid
//! host, and requests of a client behind a trusted proxy that has too many of them in progress.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status, body::Body};

use super::{
    error_body::Rejection,
    host::has_valid_host,
    preface::Protocol,
    slots::{ReachedLimit, Slot, Slots},
};
use crate::{
    network::ProxyArgs,
    ops::metrics::count_refused_call,
    server::{
        call::is_grpc,
        error_details::{Origin, complete},
        request_id::{REQUEST_ID, RequestId},
    },
    status::ApiError,
};

/// When to retry a request that was rejected because its client has too many of them.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Checks the requests of a server.
pub(super) struct Gate {
    pub(super) protocol: Protocol,
    pub(super) proxies: ProxyArgs,
    pub(super) slots: Arc<Slots>,
}

impl Gate {
    /// Acquires a slot for a connection from this address.
    pub(super) fn acquire_slot(&self, peer: IpAddr) -> Result<Slot, ReachedLimit> {
        if self.proxies.trusts(peer) { self.slots.acquire_for_proxy() } else { self.slots.acquire(peer) }
    }

    /// Admits a request, and adds its client to its extensions. Returns its slot, if it counts as a connection of the
    /// client.
    ///
    /// # Errors
    /// The response to a request that is rejected.
    pub(super) fn admit<B>(
        &self,
        request: &mut Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<Option<Slot>, Box<Response<Body>>> {
        if !has_valid_host(request) {
            return Err(Box::new(self.reject(request, Rejection::InvalidHost)));
        }
        let Some(peer) = peer else { return Ok(None) };
        let client = self.proxies.client(peer, request.headers());
        request.extensions_mut().insert(client);
        if !client.is_behind_proxy() {
            return Ok(None);
        }
        let slot = self.slots.acquire_for_request(client.address);
        slot.map(Some).map_err(|_| {
            count_refused_call("requests_behind_proxy");
            tracing::debug!(client = %client.address, "too many requests of a client behind a proxy; rejected one");
            Box::new(self.reject(request, Rejection::TooManyRequests))
        })
    }

    fn reject<B>(&self, request: &Request<B>, rejection: Rejection) -> Response<Body> {
        match (self.protocol, rejection) {
            (_, Rejection::TooManyRequests) if is_grpc(request.headers()) => too_many_calls(request),
            (Protocol::Http1And2(explain), _) => {
                let mut response = explain(rejection).map(|body| Body::new(Full::new(body)));
                // Client and server may disagree about the end of the request.
                if rejection == Rejection::InvalidHost && request.version() < Version::HTTP_2 {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            (Protocol::Http2, _) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response
            }
        }
    }
}

fn too_many_calls<B>(request: &Request<B>) -> Response<Body> {
    let message = "too many calls of this client are in progress";
    let error = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message).retry_after(RETRY_AFTER);
    let mut response = Status::from(error).into_http();
    let id = RequestId::from_headers(request.headers());
    complete(response.headers_mut(), &id, Origin::Request);
    response.headers_mut().insert(REQUEST_ID, id.as_header().clone());
    response
}

/// Releases a slot when the response has been sent or abandoned.
pub(super) fn hold_until_end(response: Response<Body>, slot: Option<Slot>) -> Response<Body> {
    match slot {
        // The closure owns the slot, and is dropped with the body.
        Some(slot) => response.map(|body| {
            Body::new(body.map_err(move |error| {
                let _held = &slot;
                error
            }))
        }),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Bytes;
    use tonic_types::StatusExt;

    use super::*;
    use crate::{network::Client, testing::refusal};

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn explain(rejection: Rejection) -> Response<Bytes> {
        Response::new(format!("{rejection:?}").into())
    }

    /// Returns a gate that allows one request per client behind the proxy.
    fn gate(protocol: Protocol) -> Gate {
        let proxies = ProxyArgs { trusted_proxies: vec![PROXY.into()] };
        Gate { protocol, proxies, slots: Slots::with_limits(9, 1) }
    }

    fn request(version: Version, content_type: &str) -> Request<()> {
        let request = Request::post("http://x/").version(version).header(header::HOST, "x");
        let request = request.header(header::CONTENT_TYPE, content_type).header("x-forwarded-for", "203.0.113.7");
        request.body(()).expect("a request")
    }

    async fn text(response: Response<Body>) -> String {
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    #[test]
    fn excess_grpc_call_gets_a_grpc_error() {
        for protocol in [Protocol::Http2, Protocol::Http1And2(explain)] {
            let (gate, mut call) = (gate(protocol), request(Version::HTTP_2, "application/grpc"));
            let slot = gate.admit(&mut call, Some(PROXY)).expect("a free slot");
            let client = call.extensions().get::<Client>().expect("the client is in the extensions");
            assert_eq!(client.address.to_string(), "203.0.113.7");
            let response = gate.admit(&mut call, Some(PROXY)).err().expect("the limit is reached");
            let status = Status::from_header_map(response.headers()).expect("a status");
            assert_eq!(refusal(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
            let details = status.get_error_details();
            assert!(details.retry_info().is_some() && details.request_info().is_some(), "{details:?}");
            drop(slot);
            assert!(gate.admit(&mut call, Some(PROXY)).is_ok());
        }
    }

    #[tokio::test]
    async fn other_excess_request_is_explained() {
        let (gate, mut request) = (gate(Protocol::Http1And2(explain)), request(Version::HTTP_11, "application/json"));
        let _slot = gate.admit(&mut request, Some(PROXY)).expect("a free slot");
        let response = gate.admit(&mut request, Some(PROXY)).err().expect("the limit is reached");
        assert_eq!(text(*response).await, "TooManyRequests");
    }

    #[tokio::test]
    async fn contradictory_host_is_rejected_by_every_server() {
        let mut request = request(Version::HTTP_2, "application/grpc");
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("y"));
        let response = gate(Protocol::Http2).admit(&mut request, None).err().expect("the host is invalid");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let response = gate(Protocol::Http1And2(explain)).admit(&mut request, None).err().expect("the host is invalid");
        assert!(!response.headers().contains_key(header::CONNECTION));
        assert_eq!(text(*response).await, "InvalidHost");
    }
}
