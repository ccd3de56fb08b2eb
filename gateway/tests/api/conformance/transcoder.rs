//! A gateway for the protos of this suite, and assertions for tables of cases.

use std::{path::Path, sync::LazyLock, time::Duration};

use gateway::service::Gateway;
use http::Method;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};

use crate::support::{FakeBackend, Reply, TestResponse, backend_at, request, settings};

/// Returns the descriptors of this suite.
pub(crate) fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compiler = protox::Compiler::new([root.join("tests/api/conformance"), root.join("../proto")]).unwrap();
        compiler.include_imports(true).open_files(["conformance.proto", "closed.proto"]).unwrap();
        DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap()
    });
    POOL.clone()
}

/// A gateway with one backend.
pub(crate) struct Transcoder {
    gateway: Gateway,
    pub(crate) backend: FakeBackend,
}

impl Transcoder {
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

    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> TestResponse {
        TestResponse::read(self.gateway.handle(request(method, path, body)).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(Method::GET, path, "").await
    }

    /// Posts a body, which the backend echoes.
    pub(crate) async fn echo(&self, body: &str) -> TestResponse {
        self.send(Method::POST, "/v1/echo", body).await
    }
}

/// Asserts that each JSON text is accepted as a value of a field, and is written as the JSON next to it.
pub(crate) async fn assert_accepted(field: &str, rows: &[(&str, Value)]) {
    let transcoder = Transcoder::start().await;
    for (text, expected) in rows {
        let response = transcoder.echo(&format!(r#"{{"{field}":{text}}}"#)).await;
        assert_eq!(response.ok().get(field), Some(expected), "{field}: {text}");
    }
}

/// Asserts that each JSON text is rejected as a value of a field, with a violation at `path` (in proto names).
pub(crate) async fn assert_rejected(field: &str, path: &str, texts: &[&str]) {
    let transcoder = Transcoder::start().await;
    for text in texts {
        let response = transcoder.echo(&format!(r#"{{"{field}":{text}}}"#)).await;
        assert_eq!(response.code, 400, "{field}: {text}: {response:?}");
        assert_eq!(response.detail("ErrorInfo")["reason"], "VALIDATION_FAILED", "{field}: {text}");
        assert_eq!(response.detail("BadRequest")["fieldViolations"][0]["field"], json!(path), "{field}: {text}");
    }
    assert!(!transcoder.backend.was_called());
}
