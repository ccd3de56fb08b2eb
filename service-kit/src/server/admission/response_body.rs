//! The body of a response, whose bytes are counted until the client has read them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::{budget::Share, server::unread};

/// A body is sent in chunks of this size, because a connection stores a chunk until the client has read it.
const CHUNK_BYTES: usize = 16 * 1024;

/// The size of the last chunk of a frame. A connection stores it although the body has ended, so that its bytes are
/// neither counted nor limited in time.
const LAST_CHUNK_BYTES: usize = 1024;

/// Returns a response whose bytes count for its client. The response is aborted if they exceed the budget. It has no
/// status then, because the call may have taken effect, just as after a lost connection.
pub(super) fn count(response: Response<Body>, share: Share) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(ResponseBody { body, rest: Bytes::new(), share }))
}

struct ResponseBody {
    body: Body,
    /// The rest of the current frame.
    rest: Bytes,
    /// The size of the current frame, which is in memory until the connection has asked for the next one.
    share: Share,
}

impl ResponseBody {
    /// Returns the next chunk of the current frame. It is a copy, so that it does not keep the whole frame in memory.
    fn next_chunk(&mut self) -> Frame<Bytes> {
        let length = match self.rest.len() {
            last if last <= LAST_CHUNK_BYTES => last,
            length => CHUNK_BYTES.min(length - LAST_CHUNK_BYTES),
        };
        unread::start_waiting();
        Frame::data(Bytes::copy_from_slice(&self.rest.split_to(length)))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        unread::stop_waiting();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.next_chunk())));
        }
        this.rest = Bytes::new();
        this.share.clear();
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let size = data.len();
        if this.share.grow(size).is_err() {
            tracing::debug!(size, "aborted a response, because its client has not read others");
            return Poll::Ready(Some(Err(Status::aborted("the client has too many unread responses"))));
        }
        this.rest = data;
        Poll::Ready(Some(Ok(this.next_chunk())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(body.lower() + rest);
        hint
    }
}
