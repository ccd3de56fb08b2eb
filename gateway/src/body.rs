//! Bodies of unary calls, which are read to the end before they are passed on. So the pace of a client never reaches a
//! connection that others use.

use std::{
    any::Any,
    convert::Infallible,
    error::Error,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::HeaderMap;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use service_kit::status::ApiError;
use tonic::{Status, body::Body};

use crate::quota::Permit;

/// The size of the prefix of a gRPC message.
pub const MESSAGE_PREFIX_BYTES: usize = 5;

/// A whole body.
#[derive(Debug)]
pub struct Whole {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its trailers, if it has any.
    pub trailers: Option<HeaderMap>,
}

/// Why a body was not read to the end.
#[derive(Debug)]
pub enum Incomplete {
    /// It is too large.
    TooLarge,
    /// It is refused, because there is no memory for it.
    Refused(Status),
    /// The sender has ended it early.
    Broken(Box<dyn Error + Send + Sync>),
}

/// Reads a body to the end, and calls `reserve` before bytes are stored.
///
/// # Errors
/// If the body has more than `max_bytes`, if `reserve` fails, or if the sender ends it early.
pub async fn read_to_end<B>(
    body: B,
    max_bytes: usize,
    mut reserve: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Whole, Incomplete>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| broken(error.into()))?.into_data() {
            Ok(data) if data.len() > max_bytes - bytes.len() => return Err(Incomplete::TooLarge),
            Ok(data) => {
                reserve(data.len()).map_err(|error| Incomplete::Refused(error.into()))?;
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Whole { bytes: bytes.freeze(), trailers })
}

/// A layer below may have refused the body; its error has details.
fn broken(error: Box<dyn Error + Send + Sync>) -> Incomplete {
    match error.downcast::<Status>() {
        Ok(status) if !status.details().is_empty() => Incomplete::Refused(*status),
        Ok(status) => Incomplete::Broken(status),
        Err(error) => Incomplete::Broken(error),
    }
}

impl Whole {
    /// Creates a body that counts as in use until it has been sent or dropped.
    #[must_use]
    pub fn into_body(self, permit: Arc<Permit>) -> Body {
        if self.bytes.is_empty() && self.trailers.is_none() {
            return Body::empty();
        }
        let Some(trailers) = self.trailers else { return with_guard(Body::new(Full::from(self.bytes)), permit) };
        let data = (!self.bytes.is_empty()).then(|| Frame::data(self.bytes));
        let frames = data.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, Infallible>);
        with_guard(Body::new(StreamBody::new(stream::iter(frames))), permit)
    }
}

/// Returns a body that keeps a value until the body is dropped.
#[must_use]
pub fn with_guard(body: Body, guard: impl Any + Send) -> Body {
    Body::new(Guarded { body, _guard: Box::new(guard) })
}

struct Guarded {
    body: Body,
    _guard: Box<dyn Any + Send>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
