//! What is left of a request that was refused before it was read.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};
use tonic::{Status, body::Body};

/// For so long, and so many pieces, the rest of a request is read. Whoever sends more is cut off.
const LIMIT: Duration = Duration::from_secs(1);
const MAX_FRAMES: usize = 16;

/// A body whose rest is read and thrown away when it is dropped. A call is refused by its headers, often before its
/// message has come; h2 (0.4.20) holds every small piece that comes for nobody against the connection and closes it
/// after some hundred, under all who share it.
pub(super) struct DrainedBody(Option<Body>);

impl DrainedBody {
    pub(super) fn around(body: Body) -> Body {
        Body::new(Self(Some(body)))
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(timeout(LIMIT, async move {
                for _ in 0..MAX_FRAMES {
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
