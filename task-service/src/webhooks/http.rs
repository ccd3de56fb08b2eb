//! Requests to receivers. Each has a connection of its own, to an address that was checked.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use service_kit::{
    clock::{Clock, Timestamp},
    network::destination::{Destination, Destinations},
    tls::WebTls,
};
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use uuid::Uuid;

/// Maximum time to connect to one of the addresses of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum number of addresses of a host that are tried.
const MAX_ADDRESSES: usize = 3;

/// Maximum size of the head of an answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How much of the body of an answer is read, and for how long, so that receivers do not see a broken connection.
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of an error, in characters. Those of servers can be long.
const MAX_ERROR_CHARS: usize = 200;

/// A request with JSON to a server that a user has named.
pub(super) struct Post<'a> {
    pub(super) owner: Uuid,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) window: SendWindow,
}

/// When a request may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow {
    /// Maximum time from resolving the host to the head of the answer.
    pub(crate) timeout: Duration,
    /// When the request must have been sent.
    pub(crate) until: Timestamp,
}

/// Sends requests to servers that users name.
pub(super) struct HttpClient {
    destinations: Destinations,
    authorities: Option<PathBuf>,
    /// Opened at the first use, because the authorities of the system need memory.
    tls: OnceCell<WebTls>,
    clock: Clock,
}

impl HttpClient {
    pub(super) fn new(destinations: Destinations, authorities: Option<PathBuf>, clock: Clock) -> Self {
        Self { destinations, authorities, tls: OnceCell::new(), clock }
    }

    pub(super) fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Sends a POST request with JSON, and returns the status of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// If there is no answer in time, with a description for the user.
    pub(super) async fn post(&self, post: Post<'_>) -> Result<StatusCode, String> {
        let limit = post.window.timeout;
        let answered = timeout(limit, self.exchange(post)).await;
        let status = answered.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())));
        status.map_err(|error| error.chars().take(MAX_ERROR_CHARS).collect())
    }

    async fn exchange(&self, post: Post<'_>) -> Result<StatusCode, String> {
        let Post { owner, url, headers, body, window } = post;
        let Destination { host, uses_tls, addresses } =
            self.destinations.resolve(owner, url).await.map_err(|error| format!("the URL {error}"))?;
        let request = request(url, headers, body).map_err(|error| error.to_string())?;
        let stream = connect(&addresses).await.map_err(|error| format!("cannot connect: {error}"))?;
        if !uses_tls {
            self.check(window)?;
            return send(TokioIo::new(stream), request).await;
        }
        let open_tls = || WebTls::open(self.authorities.clone(), &self.clock);
        let tls = self.tls.get_or_try_init(open_tls).await.map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "cannot send webhooks over TLS");
            "the server cannot use TLS".to_owned()
        })?;
        let stream = tls.connect(stream, &host).await.map_err(|error| format!("TLS: {error}"))?;
        self.check(window)?;
        send(TokioIo::new(stream), request).await
    }

    /// Checks that the request may still be sent. The process may have been stopped since the attempt began.
    fn check(&self, window: SendWindow) -> Result<(), String> {
        let is_late = self.clock.now() > window.until;
        if is_late { Err("the server was interrupted before it sent the message".to_owned()) } else { Ok(()) }
    }
}

fn request(url: &Url, mut headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    headers.insert(header::HOST, HeaderValue::from_str(&host)?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("taskey-webhooks/1"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::builder().method(Method::POST).uri(target).body(Full::new(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Connects to the first address that accepts.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last_error)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, String>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let describe = |error: hyper::Error| format!("no valid answer: {error}");
    let builder = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).to_owned();
    let (mut sender, connection) = builder.handshake(stream).await.map_err(describe)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(describe)?;
    let status = response.status();
    // The status has been received, so it does not matter what follows.
    _ = timeout(BODY_TIMEOUT, read_body(response.into_body())).await;
    Ok(status)
}

/// Reads the beginning of a body.
async fn read_body(mut body: Incoming) {
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
        if length > MAX_BODY_BYTES {
            return;
        }
    }
}
