//! Streaming responses: newline-delimited JSON or server-sent events.

use std::{convert::Infallible, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use service_kit::{server::request_id::RequestId, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, body::Body};

use crate::{
    backend,
    codec::{message_writer::MessageWriter, wire},
    http::{error::HttpError, negotiation::Framing, response},
    quota::Permit,
    routing::binding::Route,
};

/// The id of the last event that a browser received before its stream broke.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells proxies not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Interval of keep-alive comments in an idle stream of events, so that proxies do not close the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The first bytes of a stream of events: the delay in milliseconds after which browsers reconnect.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// Sets the resume field of the request to the id in `Last-Event-ID`. It takes precedence over the URL, which
/// browsers repeat unchanged when they reconnect.
pub fn set_last_event_id(route: &Route, headers: &HeaderMap, message: &mut DynamicMessage) {
    let id = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    if let (Some((field, _)), Some(id)) = (&route.resume, id) {
        message.set_field(field, Value::String(id.to_owned()));
    }
}

/// The context of a streaming response.
#[derive(Debug)]
pub struct Context {
    /// Contains the types of error details.
    pub pool: DescriptorPool,
    /// The request id in errors.
    pub id: RequestId,
    /// Ends the stream when the server shuts down, or when its connection is too old.
    pub end: CancellationToken,
    /// The bytes of the message that the client is reading.
    pub permit: Permit,
}

/// Creates a response that forwards messages as they arrive. The call is cancelled when the client disconnects.
#[must_use]
pub fn respond(route: &Route, messages: Streaming<Bytes>, framing: Framing, context: Context) -> Response<Body> {
    let resume = route.resume.as_ref().map(|(_, field)| *field);
    let retry_pending = framing == Framing::Events;
    let source = TranscodedStream {
        messages,
        framing,
        resume,
        writer: route.writer.clone(),
        backend: route.backend.name,
        context,
        retry_pending,
    };
    let frames = stream::unfold(Some(source), async |source| {
        let mut source = source?;
        let (frame, has_more) = source.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), has_more.then_some(source)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A stream of messages from a backend, transcoded for a client.
struct TranscodedStream {
    messages: Streaming<Bytes>,
    framing: Framing,
    /// The number of the field with the id of an event.
    resume: Option<u32>,
    writer: MessageWriter,
    backend: &'static str,
    context: Context,
    /// Whether [`RETRY`] must still be sent.
    retry_pending: bool,
}

impl TranscodedStream {
    /// Returns the next bytes and whether more may follow, or `None` at the end.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        if std::mem::take(&mut self.retry_pending) {
            return Some((Bytes::from_static(RETRY), true));
        }
        let end = self.context.end.clone();
        loop {
            let message = tokio::select! {
                message = timeout(KEEP_ALIVE_INTERVAL, self.messages.next()) => message,
                () = end.cancelled() => return Some((self.error_frame(&shutting_down().into()), false)),
            };
            return match message {
                Ok(Some(Ok(message))) => Some(self.message_frame(message).await),
                Ok(Some(Err(status))) => Some((self.error_frame(&self.to_http_error(status)), false)),
                Ok(None) => None,
                Err(_) if self.framing == Framing::Events => Some((Bytes::from_static(b": keep-alive\n\n"), true)),
                Err(_) => continue,
            };
        }
    }

    async fn message_frame(&mut self, message: Bytes) -> (Bytes, bool) {
        // The client has read the previous message.
        self.context.permit.clear();
        let json = response::to_json(&self.writer, message.clone()).await;
        match json.and_then(|json| self.context.permit.grow(json.len()).map(|()| json)) {
            Ok(json) => {
                let id = self.resume.and_then(|field| wire::string_field(&message, field)).filter(|id| !id.is_empty());
                (frame(self.framing, None, id, &json), true)
            }
            Err(error) => (self.error_frame(&error.into()), false),
        }
    }

    /// Converts a status and ensures that it has a reason. Streams have no deadline, so a time in the future is passed.
    fn to_http_error(&self, status: Status) -> HttpError {
        backend::ensure_reason(self.backend, status, Instant::now() + KEEP_ALIVE_INTERVAL).into()
    }

    /// Returns the last frame of a stream that ends with an error.
    fn error_frame(&self, error: &HttpError) -> Bytes {
        frame(self.framing, Some("error"), None, &error.to_json(&self.context.pool, &self.context.id))
    }
}

/// Encodes a message or the error that ends the stream. An error is an event of type `error`, or a line with the key
/// `error`, which no message has.
fn frame(framing: Framing, event: Option<&str>, id: Option<&str>, json: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(json.len() + 128);
    if framing == Framing::Events {
        for (name, value) in [("event", event), ("id", id)] {
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

/// Returns the error of a stream whose server or connection is closed.
#[must_use]
pub fn shutting_down() -> ApiError {
    let message = "the server is closing the connection; open the stream again";
    ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, message).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_a_type_and_an_id_and_lines_have_neither() {
        assert_eq!(frame(Framing::Events, None, Some("t"), b"{}"), "id: t\ndata: {}\n\n");
        assert_eq!(frame(Framing::Events, Some("error"), None, b"{}"), "event: error\ndata: {}\n\n");
        assert_eq!(frame(Framing::Lines, Some("error"), Some("t"), b"{}"), "{}\n");
    }
}
