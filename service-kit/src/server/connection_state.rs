//! The state of a connection, which its requests share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{Extensions, HeaderValue, Response, header};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// The state of a connection. Servers add it to the extensions of each request.
#[derive(Clone, Debug)]
pub struct ConnectionState {
    /// Cancelled when the streams of the connection must end.
    end: CancellationToken,
    /// Set when the connection has reached its maximum age.
    is_too_old: Arc<AtomicBool>,
}

impl ConnectionState {
    pub(super) fn new(shutdown: &CancellationToken) -> Self {
        Self { end: shutdown.child_token(), is_too_old: Arc::default() }
    }

    /// Marks the connection as having reached its maximum age.
    pub(super) fn set_too_old(&self) {
        self.is_too_old.store(true, Ordering::Relaxed);
    }

    /// Ends the streams of the connection.
    pub(super) fn end_streams(&self) {
        self.end.cancel();
    }

    /// Returns a token that is cancelled when the streams of the connection of a request must end: at the shutdown of
    /// the server, or after the maximum age of the connection and the grace period. Returns `shutdown` for a request
    /// without a connection.
    #[must_use]
    pub fn end_of_streams(extensions: &Extensions, shutdown: &CancellationToken) -> CancellationToken {
        extensions.get::<Self>().map_or(shutdown, |state| &state.end).clone()
    }

    /// Asks the client of an HTTP/1 connection that is too old to open another one for its next request. If the server
    /// closed an idle connection instead, it could lose a request that is already on its way.
    pub(super) fn finish_response(&self, is_http1: bool, mut response: Response<Body>) -> Response<Body> {
        if is_http1 && self.is_too_old.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
