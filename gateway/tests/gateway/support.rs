//! A backend that does what a test tells it, and a gateway in front of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use gateway::{Config, backend, backend::Backend, headers::Forwarding, request::JsonLimits, service::Gateway};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use prost_reflect::DescriptorPool;
use serde_json::Value;
use service_kit::server::connection::{self, Protocol};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, transport::Endpoint};

/// What a backend does with a call.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers the request message.
    Echo,
    /// Answers this message.
    Message(Vec<u8>),
    /// Answers this status.
    Refuse(Status),
    /// Never answers.
    Nothing,
}

/// A call as a backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) rpc: String,
    pub(crate) metadata: HeaderMap,
}

impl Call {
    /// All values of a metadata entry.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// A gRPC server that knows no types.
pub(crate) struct FakeBackend {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    shutdown: CancellationToken,
}

impl Drop for FakeBackend {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl FakeBackend {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_at(reply, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(reply: Reply, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, shutdown) = (Arc::<Mutex<Vec<Call>>>::default(), CancellationToken::new());
        let (log, stop) = (Arc::clone(&calls), shutdown.clone());
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let metadata = request.headers().clone();
            log.lock().unwrap().push(Call { rpc: request.uri().path().to_owned(), metadata });
            let reply = reply.clone();
            async move { Ok::<_, Infallible>(answer(reply, request).await) }
        });
        tokio::spawn(async move {
            connection::serve("fake", listener, Protocol::Http2, &config(&[]).limits, service, stop).await
        });
        Self { address, calls, shutdown }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The only call that came.
    pub(crate) fn call(&self) -> Call {
        let calls = self.calls.lock().unwrap();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }

    pub(crate) fn was_called(&self) -> bool {
        !self.calls.lock().unwrap().is_empty()
    }
}

async fn answer(reply: Reply, request: Request<Incoming>) -> Response<Body> {
    let message = match reply {
        Reply::Echo => request.into_body().collect().await.unwrap().to_bytes(),
        Reply::Message(message) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0], &length[..], &message].concat().into()
        }
        Reply::Refuse(status) => return status.into_http(),
        Reply::Nothing => std::future::pending().await,
    };
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Ok::<_, Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let body = Body::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// The settings that these flags make.
pub(crate) fn config(flags: &[&str]) -> Config {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }
    Cli::parse_from([&["gateway"], flags].concat()).config
}

/// The types of `tests/proto`.
pub(crate) fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]).unwrap();
        compiler.include_imports(true).open_file("test/v1/echo.proto").unwrap();
        DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap()
    });
    POOL.clone()
}

/// A backend for the package `test` at a URL.
pub(crate) fn backend_at(url: &str, forwarding: Option<Forwarding>) -> Backend {
    let minute = Duration::from_secs(60);
    Backend {
        name: "test",
        package: "test",
        channel: backend::connect(&Endpoint::from_shared(url.to_owned()).unwrap(), minute, minute),
        forwarding: forwarding.map(Arc::new),
        max_response_bytes: 100_000,
    }
}

pub(crate) const LIMITS: JsonLimits = JsonLimits { max_bytes: 4096, max_depth: 32 };

/// A gateway for the types of the tests before one backend.
pub(crate) struct TestGateway {
    pub(crate) gateway: Gateway,
    pub(crate) backend: FakeBackend,
}

impl TestGateway {
    /// Before a backend that echoes.
    pub(crate) async fn start() -> Self {
        Self::before(Reply::Echo).await
    }

    pub(crate) async fn before(reply: Reply) -> Self {
        let backend = FakeBackend::start(reply).await;
        let backends = vec![backend_at(&backend.url(), None)];
        let gateway = Gateway::new(pool(), backends, LIMITS, Duration::from_secs(30)).unwrap();
        Self { gateway, backend }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        Answer::read(self.gateway.answer(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(request(Method::POST, path, body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &str) -> Answer {
        self.send(request(Method::PATCH, path, body)).await
    }
}

/// A request without headers.
pub(crate) fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).body(Full::from(body.to_owned())).unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read<B>(response: Response<B>) -> Self
    where
        B: hyper::body::Body,
        B::Error: std::fmt::Debug,
    {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Self { code: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of a call that went well.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.code, 200, "{self:?}");
        self.json()
    }

    /// One detail of an error.
    pub(crate) fn detail(&self, name: &str) -> Value {
        let json = self.json();
        let details = json["error"]["details"].as_array().expect("an error has details");
        let name = format!("type.googleapis.com/google.rpc.{name}");
        details.iter().find(|detail| detail["@type"] == name.as_str()).cloned().unwrap_or_default()
    }

    /// Asserts how the request was refused.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: u16, status: &str, reason: &str, fields: &[&str]) {
        let json = self.json();
        let found: Vec<_> = self.detail("BadRequest")["fieldViolations"]
            .as_array()
            .map(|violations| {
                violations.iter().map(|violation| violation["field"].as_str().unwrap().to_owned()).collect()
            })
            .unwrap_or_default();
        let info = self.detail("ErrorInfo");
        assert_eq!(
            (self.code, &json["error"]["code"], &json["error"]["status"], &info["reason"], &info["domain"], found),
            (
                code,
                &code.into(),
                &status.into(),
                &reason.into(),
                &"taskey".into(),
                fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>(),
            ),
            "{json}"
        );
        assert!(!json["error"]["message"].as_str().unwrap().is_empty());
    }

    /// Asserts that one field was found at fault.
    #[track_caller]
    pub(crate) fn assert_at_fault(&self, field: &str) {
        self.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &[field]);
    }

    /// Asserts that the body could not be read at all.
    #[track_caller]
    pub(crate) fn assert_malformed(&self) {
        self.assert_refused(400, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
}
