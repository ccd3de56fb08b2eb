//! The body of a request, whose bytes are counted and which must not stall.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};
use tower::BoxError;

use super::call::Call;
use crate::status::ApiError;

/// How long a body may make no progress before the response starts.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request body that ends with an error if it exceeds a budget or stalls.
pub(super) struct RequestBody<B> {
    body: B,
    state: State,
    /// Set while no frame has arrived.
    stall: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// The error is the next frame.
    Refused(Status),
    Admitted(Call),
    /// The call has ended. The rest is passed on, to be discarded.
    Ended,
}

impl<B: HttpBody> RequestBody<B> {
    pub(super) fn new(body: B, admitted: Result<Call, Status>) -> Self {
        let state = admitted.map_or_else(State::Refused, State::Admitted);
        Self { body, state, stall: None }
    }

    /// Returns an error, if the body exceeds a budget.
    fn count(&self, frame: Option<&Frame<Bytes>>) -> Result<(), Status> {
        let State::Admitted(call) = &self.state else { return Ok(()) };
        call.receive(frame.and_then(Frame::data_ref).map_or(0, Bytes::len))?;
        if frame.is_none() || self.body.is_end_stream() {
            call.complete_request()?;
        }
        Ok(())
    }

    /// Returns an error if the rest of the body takes too long, or too many calls wait for theirs.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let State::Admitted(call) = &self.state else { return Poll::Pending };
        if let Err(error) = call.await_request() {
            return Poll::Ready(error);
        }
        if call.has_started_response() {
            return Poll::Pending;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        stall.as_mut().poll(cx).map(|()| stalled())
    }

    fn fail(&mut self, error: Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.end();
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> RequestBody<B> {
    fn end(&mut self) {
        if let State::Admitted(call) = std::mem::replace(&mut self.state, State::Ended) {
            call.end_request();
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let State::Refused(error) = &this.state {
            let error = error.clone();
            return this.fail(error);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return match this.poll_wait(cx) {
                Poll::Ready(error) => this.fail(error),
                Poll::Pending => Poll::Pending,
            };
        };
        this.stall = None;
        match frame.transpose() {
            Ok(frame) => match this.count(frame.as_ref()) {
                Ok(()) => Poll::Ready(frame.map(Ok)),
                Err(error) => this.fail(error),
            },
            Err(error) => this.fail(Status::from_error(error.into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.state, State::Refused(_)) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Nothing is done before a request is complete.
fn stalled() -> Status {
    let message = format!("the request sent nothing for {} s; the call had no effect", STALL_TIMEOUT.as_secs());
    ApiError::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message).into()
}
