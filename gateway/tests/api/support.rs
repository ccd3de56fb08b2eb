//! A gateway for the test protos, and its responses.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use gateway::{
    Config,
    backend::{Backend, Forwarding},
    connection::ConnectionArgs,
    http::request::JsonLimits,
    quota::Quota,
    service::{Gateway, Settings},
    session::{cookie::CookieSettings, cookie_mode::CookieMode},
};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use prost_reflect::DescriptorPool;
use serde_json::Value;
use service_kit::{clock::Clock, tls::Dialer};
use tokio_util::sync::CancellationToken;

pub(crate) use crate::fake_backend::{FakeBackend, Reply};

/// Parses the flags of the gateway.
pub(crate) fn config(flags: &[&str]) -> Config {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }
    Cli::parse_from([&["gateway"], flags].concat()).config
}

/// Returns the descriptors of `tests/proto`.
pub(crate) fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../proto")]).unwrap();
        compiler.include_imports(true).open_file("test/v1/echo.proto").unwrap();
        DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap()
    });
    POOL.clone()
}

/// Returns settings without cookie mode (there is no auth-service) and without static files.
pub(crate) fn settings(timeout: Duration) -> Settings {
    let cookies = CookieMode::new(CookieSettings::default(), Clock::system(), &[]);
    let (assets, shutdown) = (HashMap::new(), CancellationToken::new().into());
    Settings { json: LIMITS, max_message_bytes: 4096, timeout, bytes: Quota::of_bytes(), cookies, assets, shutdown }
}

/// Returns the default settings of connections to services.
pub(crate) fn connection_args() -> ConnectionArgs {
    ConnectionArgs { dialer: Dialer::plaintext(), limits: config(&[]).limits }
}

/// Returns a backend for the package `test` at a URL.
pub(crate) fn backend_at(url: &str, forwarding: Option<Forwarding>) -> Backend {
    Backend {
        forwarding: forwarding.map(Arc::new),
        max_response_bytes: 100_000,
        ..Backend::new("test", "test", [url.parse::<Uri>().unwrap()], &connection_args(), &Quota::of_bytes())
    }
}

pub(crate) const LIMITS: JsonLimits = JsonLimits { max_bytes: 4096, max_depth: 32 };

/// A gateway for the test protos with one backend.
pub(crate) struct TestGateway {
    pub(crate) gateway: Gateway,
    pub(crate) backend: FakeBackend,
}

impl TestGateway {
    /// Starts a gateway whose backend echoes requests.
    pub(crate) async fn start() -> Self {
        Self::start_with(Reply::Echo).await
    }

    /// Starts a gateway whose backend sends `reply`.
    pub(crate) async fn start_with(reply: Reply) -> Self {
        let backend = FakeBackend::start(reply).await;
        let backends = [backend_at(&backend.url(), None)];
        let gateway = Gateway::new(pool(), &backends, settings(Duration::from_secs(30))).unwrap();
        Self { gateway, backend }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> TestResponse {
        TestResponse::read(self.gateway.handle(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(request(Method::GET, path, "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> TestResponse {
        self.send(request(Method::POST, path, body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &str) -> TestResponse {
        self.send(request(Method::PATCH, path, body)).await
    }
}

/// Creates a request without headers.
pub(crate) fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).body(Full::from(body.to_owned())).unwrap()
}

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl TestResponse {
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

    /// Returns the JSON of a successful response.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.code, 200, "{self:?}");
        self.json()
    }

    /// Returns one detail of an error, or null if there is none.
    pub(crate) fn detail(&self, name: &str) -> Value {
        let json = self.json();
        let details = json["error"]["details"].as_array().expect("an error has details");
        let name = format!("type.googleapis.com/google.rpc.{name}");
        details.iter().find(|detail| detail["@type"] == name.as_str()).cloned().unwrap_or_default()
    }

    /// Asserts the code, status, reason and invalid fields of an error.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: u16, status: &str, reason: &str, fields: &[&str]) {
        let json = self.json();
        let violations: Vec<_> = self.detail("BadRequest")["fieldViolations"]
            .as_array()
            .map(|violations| {
                violations.iter().map(|violation| violation["field"].as_str().unwrap().to_owned()).collect()
            })
            .unwrap_or_default();
        let info = self.detail("ErrorInfo");
        assert_eq!(
            (self.code, &json["error"]["code"], &json["error"]["status"], &info["reason"], &info["domain"], violations),
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

    /// Asserts that `field` is the only invalid field.
    #[track_caller]
    pub(crate) fn assert_invalid_field(&self, field: &str) {
        self.assert_refused(400, "INVALID_ARGUMENT", "VALIDATION_FAILED", &[field]);
    }

    /// Asserts that the headers exceeded a limit.
    #[track_caller]
    pub(crate) fn assert_headers_too_large(&self) {
        self.assert_refused(431, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", &[]);
    }

    /// Asserts that the request was malformed.
    #[track_caller]
    pub(crate) fn assert_malformed(&self) {
        self.assert_refused(400, "INVALID_ARGUMENT", "MALFORMED_REQUEST", &[]);
    }
}
