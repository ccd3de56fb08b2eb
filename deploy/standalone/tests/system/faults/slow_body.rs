//! Calls whose request arrives slowly, or never completely.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::sleep;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Bytes, Service,
        http::{Request, StatusCode},
    },
    transport::Channel,
};

pub const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
/// Needs no token.
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A call over HTTP/JSON.
pub const JSON_LOGIN: &str = "/v1/auth/login";

/// Sends a request with this body. Returns the status of the call.
async fn call(mut channel: Channel, path: &str, body: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Status {
    let body = Body::new(StreamBody::new(body.map(|data| Ok::<_, Status>(Frame::data(data)))));
    let content_type = if path.starts_with("/v1/") { "application/json" } else { "application/grpc" };
    let request = Request::post(path).header("content-type", content_type).header("te", "trailers");
    let request = request.body(body).expect("a request");
    let response = async {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        channel.call(request).await
    };
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return Status::from_error(Box::new(error)),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        return Status::resource_exhausted("429");
    }
    match response.into_body().collect().await {
        Ok(body) => body.trailers().and_then(Status::from_header_map).unwrap_or_else(|| Status::new(Code::Unknown, "")),
        Err(status) => status,
    }
}

/// Sends only the beginning of a request, which may be empty. Returns the status of the call.
pub async fn send_half(channel: Channel, path: &str, sent: Bytes) -> Status {
    let sent = stream::iter((!sent.is_empty()).then_some(sent));
    call(channel, path, sent.chain(stream::pending())).await
}

/// Sends an empty message one byte per second, so that its end arrives after this number of seconds. Returns the status
/// of the call.
pub async fn send_slowly(channel: Channel, path: &str, seconds: usize) -> Status {
    // An empty string for field 1, many times: the last one counts.
    let fields = [0x0a, 0x00].repeat(seconds);
    let length = u32::try_from(fields.len()).expect("a short message").to_be_bytes();
    let head = stream::once(async move { Bytes::from([&[0][..], &length].concat()) });
    let rest = stream::iter(fields.chunks(2).map(Bytes::copy_from_slice).collect::<Vec<_>>()).then(async |field| {
        sleep(Duration::from_secs(1)).await;
        field
    });
    call(channel, path, head.chain(rest)).await
}
