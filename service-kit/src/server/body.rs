//! Bodies of requests and responses. A response body ends when the server shuts down, and its errors are completed. A
//! request body is drained if its call is rejected before it is read.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use super::{
    call_metrics::CallRecord,
    error_details::{Completed, Origin, complete},
    request_id::RequestId,
};
use crate::status::ApiError;

/// How long a stream continues after the shutdown has begun, so that a health watch can still report it.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Returns a response body that ends with SHUTTING_DOWN when `end` is cancelled. A stream, such as the watch of a health
/// check, would otherwise never end.
#[must_use]
pub fn end_on_shutdown(end: CancellationToken, body: Body) -> Body {
    Body::new(ResponseBody { body, deadline: Deadline::NotPolled(end), call: None })
}

/// Returns a response body like [`end_on_shutdown`], whose errors are [completed](complete). `record` ends
/// with it.
pub(super) fn finish(body: Body, end: CancellationToken, id: RequestId, record: CallRecord) -> Body {
    Body::new(ResponseBody { body, deadline: Deadline::NotPolled(end), call: Some((id, record)) })
}

/// A body that ends with an error when `deadline` has passed.
struct ResponseBody {
    body: Body,
    deadline: Deadline,
    /// The id of the call, and its record. Errors are completed only if they are set.
    call: Option<(RequestId, CallRecord)>,
}

/// The end of the grace period after the shutdown.
enum Deadline {
    /// Most unary responses are ready when they are polled, so the future is created only if a body is pending.
    NotPolled(CancellationToken),
    Waiting(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The body has ended.
    Passed,
}

impl Deadline {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::NotPolled(shutdown) = self {
            let shutdown = shutdown.clone();
            *self = Self::Waiting(Box::pin(async move {
                shutdown.cancelled().await;
                tokio::time::sleep(SHUTDOWN_GRACE_PERIOD).await;
            }));
        }
        if let Self::Waiting(grace_period) = self {
            ready!(grace_period.as_mut().poll(cx));
            *self = Self::Passed;
        }
        Poll::Ready(())
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if matches!(this.deadline, Deadline::Passed) {
            return Poll::Ready(None);
        }
        // Frames of the body take precedence over the deadline.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| this.complete(frame)));
        }
        ready!(this.deadline.poll(cx));
        let message = "the server is closing the connection; open the stream again";
        let error = ApiError::new(Code::Unavailable, ErrorReason::ShuttingDown, message);
        let mut trailers = http::HeaderMap::new();
        Status::from(error.retry_after(Duration::from_secs(1))).add_header(&mut trailers)?;
        Poll::Ready(Some(this.complete(Ok(Frame::trailers(trailers)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.deadline, Deadline::Passed) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ResponseBody {
    /// Completes the error in the trailers, if the frame contains them, and records the end of the call.
    fn complete(&mut self, mut frame: Result<Frame<Bytes>, Status>) -> Result<Frame<Bytes>, Status> {
        let Some((id, record)) = &mut self.call else { return frame };
        match &mut frame {
            Ok(frame) => {
                let completed = frame.trailers_mut().and_then(|trailers| complete(trailers, id, Origin::Response));
                if let Some(Completed { code, reason }) = completed {
                    record.end(code, reason.as_deref());
                }
            }
            Err(status) => record.end(status.code(), None),
        }
        frame
    }
}

/// Limits for draining the rest of a request. What a client sends beyond them is not read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_DRAINED_FRAMES: usize = 16;

/// A body that reads and discards its remaining frames when it is dropped. A call is often rejected by its headers
/// before its message has arrived. h2 (0.4.20) charges each small frame that is not read to the connection, and closes
/// the connection after about a hundred of them, with all other calls on it.
pub(super) struct DrainedBody(Option<Body>);

impl DrainedBody {
    pub(super) fn wrap(body: Body) -> Body {
        Body::new(Self(Some(body)))
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(timeout(DRAIN_TIMEOUT, async move {
                for _ in 0..MAX_DRAINED_FRAMES {
                    if !matches!(rest.frame().await, Some(Ok(_))) {
                        break;
                    }
                }
            }));
        }
    }
}

impl HttpBody for DrainedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
