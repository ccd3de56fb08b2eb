//! A gateway for the types of this suite, and the tables that are held against it.

use std::{path::Path, sync::LazyLock, time::Duration};

use gateway::service::Gateway;
use http::Method;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};

use crate::support::{Answer, FakeBackend, Reply, backend_at, request, settings};

/// The types of this suite.
pub(crate) fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compiler = protox::Compiler::new([root.join("tests/api/conformance"), root.join("../proto")]).unwrap();
        compiler.include_imports(true).open_files(["conformance.proto", "closed.proto"]).unwrap();
        DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap()
    });
    POOL.clone()
}

/// A gateway before a backend.
pub(crate) struct Transcoder {
    gateway: Gateway,
    pub(crate) backend: FakeBackend,
}

impl Transcoder {
    /// Before a backend that echoes.
    pub(crate) async fn start() -> Self {
        Self::before(Reply::Echo).await
    }

    pub(crate) async fn before(reply: Reply) -> Self {
        let backend = FakeBackend::start(reply).await;
        let backends = vec![backend_at(&backend.url(), None)];
        let gateway = Gateway::new(pool(), backends, settings(Duration::from_secs(30))).unwrap();
        Self { gateway, backend }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Answer {
        Answer::read(self.gateway.answer(request(method, path, body)).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    /// What the message is that a body makes.
    pub(crate) async fn echo(&self, body: &str) -> Answer {
        self.send(Method::POST, "/v1/echo", body).await
    }
}

/// Asserts that each text is read as a value of the field, and written as the JSON beside it.
pub(crate) async fn assert_read(field: &str, rows: &[(&str, Value)]) {
    let transcoder = Transcoder::start().await;
    for (text, written) in rows {
        let answer = transcoder.echo(&format!(r#"{{"{field}":{text}}}"#)).await;
        assert_eq!(answer.ok().get(field), Some(written), "{field}: {text}");
    }
}

/// Asserts that each text is refused, at the field of this name in the proto.
pub(crate) async fn assert_refused(field: &str, at: &str, texts: &[&str]) {
    let transcoder = Transcoder::start().await;
    for text in texts {
        let answer = transcoder.echo(&format!(r#"{{"{field}":{text}}}"#)).await;
        assert_eq!(answer.code, 400, "{field}: {text}: {answer:?}");
        assert_eq!(answer.detail("ErrorInfo")["reason"], "VALIDATION_FAILED", "{field}: {text}");
        assert_eq!(answer.detail("BadRequest")["fieldViolations"][0]["field"], json!(at), "{field}: {text}");
    }
    assert!(!transcoder.backend.was_called());
}
