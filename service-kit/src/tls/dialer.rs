//! Opens connections to other services.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service};

use super::{failure, reload::Reloaded};

/// Maximum time to connect, including the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens connections to other services: over TLS to `https` URLs, with the files as they are now.
#[derive(Clone, Debug)]
pub struct Dialer {
    http: HttpConnector,
    /// `None` if only `http` URLs are possible.
    tls: Option<Reloaded<Arc<ClientConfig>>>,
}

impl Dialer {
    /// Creates a dialer for `http` URLs.
    #[must_use]
    pub fn plaintext() -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        Self { http, tls: None }
    }

    pub(super) fn new(config: Reloaded<Arc<ClientConfig>>) -> Self {
        Self { tls: Some(config), ..Self::plaintext() }
    }

    async fn connect(mut self, url: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
        let Some(tls) = &self.tls else {
            if url.scheme_str() == Some("https") {
                return Err(io::Error::other("TLS to other services is not configured").into());
            }
            return Ok(MaybeHttpsStream::Http(self.http.call(url).await?));
        };
        let config = Arc::clone(&tls.current().config);
        HttpsConnector::from((self.http, config)).call(url).await.map_err(failure::explain)
    }
}

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.clone().connect(url);
        Box::pin(async move {
            let connected = timeout(CONNECT_TIMEOUT, connecting).await;
            connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
        })
    }
}
