//! The body of a response, whose bytes are counted until the client has read them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::budget::Share;

/// Returns a response whose bytes count for its client. The response is aborted if they exceed the budget. It has no
/// status then, because the call may have taken effect, just as after a lost connection.
pub(super) fn count(response: Response<Body>, share: Share) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(ResponseBody { body, share }))
}

struct ResponseBody {
    body: Body,
    /// The size of the current frame, which is in memory until the connection asks for the next one.
    share: Share,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        this.share.clear();
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let size = frame.data_ref().map_or(0, Bytes::len);
        if this.share.grow(size).is_err() {
            tracing::debug!(size, "aborted a response, because its client has not read others");
            return Poll::Ready(Some(Err(Status::aborted("the client has too many unread responses"))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
