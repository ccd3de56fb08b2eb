//! Answers that go on: newline-delimited JSON, or server-sent events.

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Value};
use service_kit::{server::request_id::RequestId, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, body::Body};

use crate::{
    backend,
    http::{error::HttpError, negotiation::Framing, response},
    routing::binding::Route,
};

/// Whence a browser takes a stream up that has broken.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies to pass on what comes at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A comment is sent when there was nothing else for so long, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The first bytes of a stream of events: after how many milliseconds a browser connects again.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// Puts the id of the last event that a browser has seen where the request says whence it goes on. It counts more than
/// what the URL says, which a browser repeats as it was.
pub fn set_last_event_id(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) {
    let last = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok()).filter(|last| !last.is_empty());
    if let (Some((field, _)), Some(last)) = (&route.resume, last) {
        message.set_field(field, Value::String(last.to_owned()));
    }
}

/// What an answer needs besides the messages.
#[derive(Clone, Debug)]
pub struct Context {
    /// Knows the types of the details of errors.
    pub pool: DescriptorPool,
    /// Stands in errors.
    pub id: RequestId,
    /// The end of the server is that of the stream.
    pub shutdown: CancellationToken,
}

/// The answer that passes messages on as they come, until there are no more. When its reader goes, so does the call.
#[must_use]
pub fn respond(
    route: &Route,
    messages: Streaming<DynamicMessage>,
    framing: Framing,
    context: Context,
) -> Response<Body> {
    let resume = route.resume.as_ref().map(|(_, field)| field.clone());
    let begins = framing == Framing::Events;
    let response_body = route.response_body.clone();
    let passing =
        PassthroughStream { messages, framing, resume, response_body, backend: route.backend.name, context, begins };
    let frames = stream::unfold(Some(passing), async |passing| {
        let mut passing = passing?;
        let (frame, goes_on) = passing.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), goes_on.then_some(passing)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A stream on its way from a backend to a client.
struct PassthroughStream {
    messages: Streaming<DynamicMessage>,
    framing: Framing,
    resume: Option<FieldDescriptor>,
    response_body: Option<FieldDescriptor>,
    backend: &'static str,
    context: Context,
    /// Whether nothing has been sent yet of what begins with [`RETRY`].
    begins: bool,
}

impl PassthroughStream {
    /// The next bytes, and whether more may follow; none at the end.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        if std::mem::take(&mut self.begins) {
            return Some((Bytes::from_static(RETRY), true));
        }
        let shutdown = self.context.shutdown.clone();
        loop {
            let message = tokio::select! {
                message = timeout(KEEP_ALIVE, self.messages.next()) => message,
                () = shutdown.cancelled() => return Some((self.fail(&shutting_down().into()), false)),
            };
            return match message {
                Ok(Some(Ok(message))) => Some(self.pass_on(&message)),
                Ok(Some(Err(status))) => Some((self.fail(&self.explained(status)), false)),
                Ok(None) => None,
                Err(_) if self.framing == Framing::Events => Some((Bytes::from_static(b": keep-alive\n\n"), true)),
                Err(_) => continue,
            };
        }
    }

    fn pass_on(&self, message: &DynamicMessage) -> (Bytes, bool) {
        match response::to_json(message, self.response_body.as_ref()) {
            Ok(json) => {
                let id = self.resume.as_ref().map(|field| message.get_field(field));
                let id = id.as_ref().and_then(|id| id.as_str()).filter(|id| !id.is_empty());
                (frame(self.framing, None, id, &json), true)
            }
            Err(error) => (self.fail(&error.into()), false),
        }
    }

    /// A stream has no deadline, so none can have passed.
    fn explained(&self, status: Status) -> HttpError {
        backend::complete(self.backend, status, Instant::now() + KEEP_ALIVE).into()
    }

    /// The last of a stream that ends before it should.
    fn fail(&self, error: &HttpError) -> Bytes {
        frame(self.framing, Some("error"), None, &error.to_json(&self.context.pool, &self.context.id))
    }
}

/// A message, or the error that ends the stream: of a kind of its own among events, and with the key `error`, which no
/// message has, among lines.
fn frame(framing: Framing, kind: Option<&str>, id: Option<&str>, json: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(json.len() + 128);
    if framing == Framing::Events {
        for (name, value) in [("event", kind), ("id", id)] {
            if let Some(value) = value {
                bytes.put(format!("{name}: {value}\n").as_bytes());
            }
        }
        bytes.put(&b"data: "[..]);
    }
    bytes.put(json);
    bytes.put(if framing == Framing::Events { &b"\n\n"[..] } else { &b"\n"[..] });
    bytes.freeze()
}

fn shutting_down() -> ApiError {
    let error = ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, "the server is shutting down");
    error.retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_kind_and_an_id_and_a_line_has_neither() {
        assert_eq!(frame(Framing::Events, None, Some("t"), b"{}"), "id: t\ndata: {}\n\n");
        assert_eq!(frame(Framing::Events, Some("error"), None, b"{}"), "event: error\ndata: {}\n\n");
        assert_eq!(frame(Framing::Lines, Some("error"), Some("t"), b"{}"), "{}\n");
    }
}
