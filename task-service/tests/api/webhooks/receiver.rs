//! A receiver of webhooks: an HTTP server that records requests.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, Request, Response, StatusCode, header::LOCATION};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use service_kit::testing::certificates::Issued;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::WAIT_TIMEOUT;

/// How a receiver answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Status(u16),
    /// Status 307 with this location.
    Redirect(String),
    /// Reads the request and never answers.
    Nothing,
}

/// A request to a receiver.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> String {
        self.headers[name].to_str().expect("ASCII").to_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Returns the titles of the changed tasks.
    pub(super) fn titles(&self) -> Vec<String> {
        let changes = self.json()["changes"].as_array().expect("a list").clone();
        changes.iter().map(|change| change["task"]["title"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Returns the signatures as they are according to Standard Webhooks, for these secrets.
    pub(super) fn expected_signature(&self, secrets: &[&str]) -> String {
        let sign = |secret: &&str| {
            let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64");
            let signed = [self.header("webhook-id"), self.header("webhook-timestamp"), String::new()].join(".");
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &[signed.as_bytes(), &self.body].concat());
            format!("v1,{}", BASE64_STANDARD.encode(tag))
        };
        secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

/// A running receiver. Dropping it stops it.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    answer: Arc<Mutex<Answer>>,
    received: AsyncMutex<mpsc::UnboundedReceiver<Received>>,
    _running: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Starts a receiver without TLS that answers with status 200.
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a receiver with a certificate.
    pub(super) async fn start_with_tls(issued: &Issued, folder: &Path) -> Self {
        let [certificate, key] = issued.write(folder, "receiver");
        let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("valid");
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(Answer::Status(200)));
        let (sender, received) = mpsc::unbounded_channel();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let running = tokio::spawn(accept(listener, tls, Arc::clone(&answer), sender));
        let received = AsyncMutex::new(received);
        Self { address, scheme, answer, received, _running: AbortOnDropHandle::new(running) }
    }

    /// Returns the URL of the receiver.
    pub(super) fn url(&self) -> String {
        self.url_with_host("127.0.0.1")
    }

    pub(super) fn url_with_host(&self, host: &str) -> String {
        format!("{}://{host}:{}/hook?key=1", self.scheme, self.address.port())
    }

    /// Sets how requests are answered from now on.
    pub(super) fn answer_with(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// Waits for the next request.
    pub(super) async fn next(&self) -> Received {
        let next = async { self.received.lock().await.recv().await };
        timeout(WAIT_TIMEOUT, next).await.expect("a request arrives in time").expect("the receiver runs")
    }

    /// Waits until this many changes were received, and returns the titles of their tasks.
    pub(super) async fn titles(&self, count: usize) -> Vec<String> {
        let mut titles = Vec::new();
        while titles.len() < count {
            titles.extend(self.next().await.titles());
        }
        titles
    }

    /// Reports whether there is no further request so far.
    pub(super) async fn is_idle(&self) -> bool {
        self.received.lock().await.is_empty()
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answer: Arc<Mutex<Answer>>,
    received: mpsc::UnboundedSender<Received>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, answer, received) = (tls.clone(), Arc::clone(&answer), received.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, answer, received).await,
                Some(tls) => {
                    // Otherwise, the sender has refused the certificate.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, answer, received).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, answer: Arc<Mutex<Answer>>, received: mpsc::UnboundedSender<Received>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, received) = (Arc::clone(&answer), received.clone());
        async move {
            assert_eq!(request.uri(), "/hook?key=1");
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            // Before the request is reported, so that the test cannot change it in between.
            let answer = answer.lock().expect("not poisoned").clone();
            _ = received.send(Received { headers, body });
            Ok::<_, Infallible>(respond(answer).await)
        }
    });
    // The sender may close the connection at any time.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match answer {
        Answer::Status(status) => *response.status_mut() = StatusCode::from_u16(status).expect("a status"),
        Answer::Redirect(location) => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(LOCATION, location.parse().expect("a header"));
        }
        Answer::Nothing => std::future::pending().await,
    }
    response
}
