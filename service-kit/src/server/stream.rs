//! How answers end: with complete errors, and not later than the server.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use taskey_proto::errors::v1::ErrorReason;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use super::{
    call::{Origin, complete},
    request_id::RequestId,
};
use crate::status::Refusal;

/// For so long after the shutdown a stream may go on: enough to tell that the server is not ready any more.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The body of an answer that ends when the server does. A stream, such as the watch of a health check, would otherwise
/// go on for ever.
#[must_use]
pub fn until(shutdown: CancellationToken, body: Body) -> Body {
    let end = Box::pin(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    });
    Body::new(Ending { body, end: Some(end) })
}

/// The body of an answer whose errors are complete, and which ends when the server does.
pub(super) fn finish(body: Body, shutdown: CancellationToken, id: RequestId) -> Body {
    Body::new(until(shutdown, body).map_frame(move |mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            complete(trailers, &id, Origin::Response);
        }
        frame
    }))
}

/// A body that is cut off when `end` has come.
struct Ending {
    body: Body,
    /// `None` once the body has been cut off.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(end) = &mut this.end else { return Poll::Ready(None) };
        // What the body has to say comes first; unary answers never wait.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(end.as_mut().poll(cx));
        this.end = None;
        let refusal = Refusal::new(Code::Unavailable, ErrorReason::ShuttingDown, "the server is shutting down");
        let mut trailers = http::HeaderMap::new();
        Status::from(refusal.retry_after(Duration::from_secs(1))).add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
