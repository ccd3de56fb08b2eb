//! The running gateway: over sockets, with the contract of Taskey.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use gateway::Config;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use service_kit::{
    clock::Clock,
    ops::secret_file::{self, Key},
    status::ApiError,
    testing,
    tls::Dialer,
};
use taskey_proto::{errors::v1::ErrorReason, task::v1::Task};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::support::{FakeBackend, Reply, TestResponse, config};

/// A running gateway.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    /// The scheme of its URL.
    scheme: &'static str,
    dialer: Dialer,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

impl Program {
    /// Starts a gateway. If it has TLS, its requests trust the authority of the services.
    pub(crate) async fn start(config: Config) -> Self {
        let clock = Clock::system();
        let (tls, dialer) = (config.tls.open(&clock).await.unwrap(), config.upstream.open([], &clock).await.unwrap());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = testing::listen(&config.limits, tls).await;
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway::run(config, listener, shutdown.clone()));
        Self { address, scheme, dialer, shutdown, running }
    }

    /// Starts a gateway with the services at these URLs.
    pub(crate) async fn start_with(auth_url: &str, task_url: &str) -> Self {
        Self::start(config(&["--auth-url", auth_url, "--task-url", task_url])).await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> TestResponse {
        TestResponse::read(self.open(request).await).await
    }

    /// Sends a request and returns the response before its body is read.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let client = Client::builder(TokioExecutor::new()).build(self.dialer.clone());
        client.request(request).await.unwrap()
    }

    /// Lets further requests use plaintext, whatever the gateway requires.
    pub(crate) fn use_plaintext(&mut self) {
        (self.scheme, self.dialer) = ("http", Dialer::plaintext());
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(self.request(Method::GET, path, "")).await
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
        let uri = format!("{}://{}{path}", self.scheme, self.address);
        Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap()
    }
}

/// A URL where no service listens.
pub(crate) const UNREACHABLE: &str = "http://127.0.0.1:1";

/// Starts a service that serves only health checks, and returns its URL.
async fn health_service(status: ServingStatus) -> String {
    reporting_service(status).await.1
}

/// Starts a service like [`health_service`], and returns its health reporter and its URL.
pub(crate) async fn reporting_service(status: ServingStatus) -> (HealthReporter, String) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", status).await;
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (reporter, url)
}

#[tokio::test]
async fn create_task_is_transcoded() {
    use prost::Message;
    let task = Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() };
    let backend = FakeBackend::start(Reply::Message(task.encode_to_vec())).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    let response = program.send(program.request(Method::POST, "/v1/tasks", r#"{"title":"Buy milk"}"#)).await;
    let json = response.ok();
    assert_eq!((json["title"].as_str(), json["notes"].as_str()), (Some("Buy milk"), Some("")));
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/CreateTask");
}

/// Starts a gateway whose task-service returns a task for every call.
async fn start_with_task() -> (FakeBackend, Program) {
    use prost::Message;
    let task = Task { id: "x".to_owned(), etag: "\"1f\"".to_owned(), ..Task::default() };
    let backend = FakeBackend::start(Reply::Message(task.encode_to_vec())).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    (backend, program)
}

pub(crate) fn with_header(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn etag_of_a_resource_is_a_header() {
    let (_backend, program) = start_with_task().await;
    let response = program.get("/v1/tasks/x").await;
    assert_eq!((response.header("etag"), response.ok()["etag"].as_str()), ("\"1f\"", Some("\"1f\"")));
}

#[tokio::test]
async fn if_none_match_with_the_current_etag_is_304() {
    let (_backend, program) = start_with_task().await;
    for etag in ["\"1f\"", "\"0\", \"1f\"", "W/\"1f\"", "*"] {
        let request = with_header(program.request(Method::GET, "/v1/tasks/x", ""), "if-none-match", etag);
        let response = program.send(request).await;
        assert_eq!((response.code, &response.text[..], response.header("etag")), (304, "", "\"1f\""), "{etag}");
    }
    let request = with_header(program.request(Method::GET, "/v1/tasks/x", ""), "if-none-match", "\"1e\"");
    program.send(request).await.ok();
    let request = with_header(program.request(Method::POST, "/v1/tasks/x:complete", ""), "if-none-match", "\"1f\"");
    program.send(request).await.ok();
}

#[tokio::test]
async fn etag_mismatch_is_412_for_if_match_and_409_for_the_body() {
    let error = ApiError::new(Code::Aborted, ErrorReason::EtagMismatch, "the task has changed");
    let backend = FakeBackend::start(Reply::Status(error.into())).await;
    let program = Program::start_with(UNREACHABLE, &backend.url()).await;
    for (method, path, body) in [
        (Method::PATCH, "/v1/tasks/x", r#"{"title":"y"}"#),
        (Method::DELETE, "/v1/tasks/x", ""),
        (Method::POST, "/v1/tasks/x:complete", ""),
    ] {
        let request = with_header(program.request(method, path, body), "if-match", "\"1e\"");
        program.send(request).await.assert_refused(412, "ABORTED", "ETAG_MISMATCH", &[]);
    }
    let body = r#"{"title":"y","etag":"\"1e\""}"#;
    let response = program.send(program.request(Method::PATCH, "/v1/tasks/x", body)).await;
    response.assert_refused(409, "ABORTED", "ETAG_MISMATCH", &[]);
}

#[tokio::test]
async fn unusable_if_match_is_malformed() {
    let (backend, program) = start_with_task().await;
    let etag_in_body = r#"{"title":"y","etag":"\"2\""}"#;
    for (method, path, body, tag) in [
        (Method::PATCH, "/v1/tasks/x", etag_in_body, "\"1\""),
        (Method::PATCH, "/v1/tasks/x", "{}", "\"1\", \"2\""),
        (Method::GET, "/v1/tasks/x", "", "\"1\""),
        (Method::GET, "/v1/tasks", "", "\"1\""),
    ] {
        let request = with_header(program.request(method, path, body), "if-match", tag);
        program.send(request).await.assert_malformed();
    }
    assert!(!backend.was_called());
    let request = with_header(program.request(Method::PATCH, "/v1/tasks/x", "{}"), "if-match", "*");
    program.send(request).await.ok();
}

#[tokio::test]
async fn only_auth_service_gets_token_and_address() {
    let (auth, task) = (FakeBackend::start(Reply::Echo).await, FakeBackend::start(Reply::Echo).await);
    let mut config = config(&["--auth-url", &auth.url(), "--task-url", &task.url()]);
    config.service_token.service_token = Some(Key::new([7; 32]));
    let program = Program::start(config).await;
    program.get("/v1/me").await.ok();
    program.get("/v1/tasks").await;
    assert_eq!(auth.call().values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(auth.call().values("x-taskey-service-token").len(), 1);
    assert!(
        task.call().values("x-forwarded-for").is_empty() && task.call().values("x-taskey-service-token").is_empty()
    );
}

#[tokio::test]
async fn healthz_succeeds_without_services() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let response = program.get("/healthz").await;
    assert_eq!(response.ok()["status"], "SERVING");
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(program.send(program.request(Method::POST, "/healthz", "")).await.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn readyz_succeeds_if_both_services_are_ready() {
    let (auth, task) = (health_service(ServingStatus::Serving).await, health_service(ServingStatus::Serving).await);
    assert_eq!(Program::start_with(&auth, &task).await.get("/readyz").await.ok()["status"], "SERVING");
}

#[tokio::test]
async fn readyz_names_the_services_that_are_not_ready() {
    let (auth, task) = (health_service(ServingStatus::Serving).await, health_service(ServingStatus::NotServing).await);
    let response = Program::start_with(&auth, &task).await.get("/readyz").await;
    response.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
    assert_eq!(response.json()["error"]["message"], "not ready: task");
    let hanging = FakeBackend::start(Reply::Never).await;
    let response = Program::start_with(&hanging.url(), UNREACHABLE).await.get("/readyz").await;
    assert_eq!(response.json()["error"]["message"], "not ready: auth, task");
}

#[tokio::test]
async fn http2_is_supported() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = program.request(Method::GET, "/healthz", "");
    assert_eq!(client.request(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn gateway_stops_on_shutdown() {
    let program = Program::start_with(UNREACHABLE, UNREACHABLE).await;
    program.get("/healthz").await.ok();
    program.shutdown.cancel();
    program.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn service_token_file_must_be_private() {
    let folder = testing::folder();
    let path = folder.path().join("gateway.token");
    fs::write(&path, "taskey_service_abc\n").unwrap();
    let open = async || config(&["--service-token-file", path.to_str().unwrap()]).service_token.open().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open().await.is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let token = open().await.unwrap().expect("a token");
    assert_eq!(token.header(), "taskey_service_abc");
    assert!(!format!("{token:?}").contains("abc"));
    for invalid in ["", "two tokens", "naïve"] {
        fs::write(&path, invalid).unwrap();
        assert!(open().await.is_err(), "{invalid:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(open().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn changed_service_token_file_is_reloaded() {
    let folder = testing::folder();
    let path = folder.path().join("gateway.token");
    secret_file::create(&path, "taskey_service_old").unwrap();
    let token = config(&["--service-token-file", path.to_str().unwrap()]).service_token.open().await.unwrap();
    let token = token.expect("a token");
    secret_file::replace(&path, "taskey_service_new").unwrap();
    let reloaded = async {
        while token.header() != "taskey_service_new" {
            // The clock is paused, so that the sleep ends as soon as the runtime is idle.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = token.follow() => unreachable!("the file is followed forever"),
        () = reloaded => {}
    }
}
