//! Responses that are files: the parts that an RPC streams, without JSON.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::Instant;
use tonic::{Status, Streaming, body::Body};

use crate::{
    backend,
    codec::wire::{bytes_field, string_field},
    http::error::HttpError,
    routing::binding::{FileFields, Route},
    stream::{Context, shutting_down},
};

/// Passed for the deadline of a part, because streams have none.
const NO_DEADLINE: Duration = Duration::from_secs(60);

/// Creates a response with the parts of a file as they arrive. The call is cancelled when the client disconnects. If it
/// fails, so does the body of the response, so that clients do not take a part for the whole.
///
/// # Errors
/// If the call fails before the first part.
pub async fn respond(
    route: &Route,
    fields: FileFields,
    mut messages: Streaming<Bytes>,
    context: Context,
) -> Result<Response<Body>, HttpError> {
    let backend = route.backend.name;
    let first = match messages.next().await {
        Some(Ok(message)) => message,
        Some(Err(status)) => return Err(with_reason(backend, status).into()),
        None => Bytes::new(),
    };
    let mut response = Response::new(());
    for (name, value) in [
        (header::CONTENT_TYPE, string_field(&first, fields.content_type).map(str::to_owned)),
        (header::CONTENT_DISPOSITION, string_field(&first, fields.file_name).and_then(attachment)),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    let source = FileStream { messages, first: Some(first), content: fields.content, backend, context };
    let frames = stream::unfold(Some(source), async |source| {
        let mut source = source?;
        let part = source.next().await?;
        let next = part.is_ok().then_some(source);
        Some((part.map(Frame::data), next))
    });
    Ok(response.map(|()| Body::new(StreamBody::new(frames))))
}

/// Returns the header that lets browsers store the response under this name (RFC 6266).
fn attachment(name: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_plain)).then(|| format!("attachment; filename=\"{name}\""))
}

fn with_reason(backend: &str, status: Status) -> Status {
    backend::ensure_reason(backend, status, Instant::now() + NO_DEADLINE)
}

/// The parts of a file, on their way to a client.
struct FileStream {
    messages: Streaming<Bytes>,
    /// The first message, until it is sent.
    first: Option<Bytes>,
    /// The number of the field with the bytes.
    content: u32,
    backend: &'static str,
    context: Context,
}

impl FileStream {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let message = match self.first.take() {
            Some(first) => first,
            None => {
                tokio::select! {
                    message = self.messages.next() => match message? {
                        Ok(message) => message,
                        Err(status) => return Some(Err(with_reason(self.backend, status))),
                    },
                    () = self.context.end.cancelled() => return Some(Err(shutting_down().into())),
                }
            }
        };
        // The client has read the previous part.
        self.context.permit.clear();
        let part = bytes_field(&message, self.content).unwrap_or_default();
        Some(self.context.permit.grow(part.len()).map(|()| part).map_err(Status::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_need_quoting_are_not_used() {
        assert_eq!(attachment("tasks.csv").as_deref(), Some("attachment; filename=\"tasks.csv\""));
        for name in ["", "a b", "a\"b", "a/b", "ä", "a\r\nb"] {
            assert_eq!(attachment(name), None, "{name:?}");
        }
    }
}
