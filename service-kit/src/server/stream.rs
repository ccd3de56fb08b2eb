//! How answers end: with complete errors, and not later than the server.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use taskey_proto::errors::v1::ErrorReason;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use super::{
    error_details::{Origin, complete},
    request_id::RequestId,
};
use crate::status::ApiError;

/// For so long after the shutdown a stream may go on: enough to tell that the server is not ready any more.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The body of an answer that ends when the server does. A stream, such as the watch of a health check, would otherwise
/// go on for ever.
#[must_use]
pub fn until(shutdown: CancellationToken, body: Body) -> Body {
    Body::new(Ending { body, end: End::Unasked(shutdown), id: None })
}

/// The body of an answer whose errors are complete, and which ends when the server does.
pub(super) fn finish(body: Body, shutdown: CancellationToken, id: RequestId) -> Body {
    Body::new(Ending { body, end: End::Unasked(shutdown), id: Some(id) })
}

/// A body that is cut off when `end` has come.
struct Ending {
    body: Body,
    end: End,
    /// Of the call whose errors are to be made complete.
    id: Option<RequestId>,
}

/// The end of the server.
enum End {
    /// Unary answers never wait for it.
    Unasked(CancellationToken),
    Awaited(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The body has been cut off.
    Come,
}

impl End {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Unasked(shutdown) = self {
            let shutdown = shutdown.clone();
            *self = Self::Awaited(Box::pin(async move {
                shutdown.cancelled().await;
                tokio::time::sleep(LAST_WORDS).await;
            }));
        }
        if let Self::Awaited(end) = self {
            ready!(end.as_mut().poll(cx));
            *self = Self::Come;
        }
        Poll::Ready(())
    }
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if matches!(this.end, End::Come) {
            return Poll::Ready(None);
        }
        // What the body has to say comes first.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map(|frame| completed(frame, this.id.as_ref()))));
        }
        ready!(this.end.poll(cx));
        let error = ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, "the server is shutting down");
        let mut trailers = http::HeaderMap::new();
        Status::from(error.retry_after(Duration::from_secs(1))).add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(completed(Frame::trailers(trailers), this.id.as_ref()))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.end, End::Come) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The frame, of which an error is complete.
fn completed(mut frame: Frame<Bytes>, id: Option<&RequestId>) -> Frame<Bytes> {
    if let (Some(trailers), Some(id)) = (frame.trailers_mut(), id) {
        complete(trailers, id, Origin::Response);
    }
    frame
}
