//! The gateway as it runs: over sockets, with the contract of Taskey.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use gateway::Config;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use service_kit::{
    ops::secret_file::{self, Key},
    status::ApiError,
    testing,
};
use taskey_proto::{errors::v1::ErrorReason, task::v1::Task};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::support::{Answer, FakeBackend, Reply, config};

/// A running gateway.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

impl Program {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway::run(config, listener, shutdown.clone()));
        Self { address, shutdown, running }
    }

    pub(crate) async fn before(auth: &str, task: &str) -> Self {
        Self::start(config(&["--auth-url", auth, "--task-url", task])).await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        Answer::read(self.open(request).await).await
    }

    /// An answer whose body is still to be read.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        client.request(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, "")).await
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
        let uri = format!("http://{}{path}", self.address);
        Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap()
    }
}

/// Nobody listens there.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

/// A service of which only the health is there.
async fn healthy(status: ServingStatus) -> String {
    reporting(status).await.1
}

/// As [`healthy`], with what says how it is.
pub(crate) async fn reporting(status: ServingStatus) -> (HealthReporter, String) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", status).await;
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (reporter, url)
}

#[tokio::test]
async fn a_task_goes_through_the_contract() {
    use prost::Message;
    let task = Task { id: "x".to_owned(), title: "Buy milk".to_owned(), ..Task::default() };
    let backend = FakeBackend::start(Reply::Message(task.encode_to_vec())).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    let answer = program.send(program.request(Method::POST, "/v1/tasks", r#"{"title":"Buy milk"}"#)).await;
    let json = answer.ok();
    assert_eq!((json["title"].as_str(), json["notes"].as_str()), (Some("Buy milk"), Some("")));
    assert_eq!(backend.call().rpc, "/taskey.task.v1.TaskService/CreateTask");
}

/// A task that the backend answers to whatever it is asked.
async fn before_a_task() -> (FakeBackend, Program) {
    use prost::Message;
    let task = Task { id: "x".to_owned(), etag: "\"1f\"".to_owned(), ..Task::default() };
    let backend = FakeBackend::start(Reply::Message(task.encode_to_vec())).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    (backend, program)
}

pub(crate) fn with_header(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn a_resource_bears_its_etag_as_a_header() {
    let (_backend, program) = before_a_task().await;
    let answer = program.get("/v1/tasks/x").await;
    assert_eq!((answer.header("etag"), answer.ok()["etag"].as_str()), ("\"1f\"", Some("\"1f\"")));
}

#[tokio::test]
async fn who_has_the_version_already_gets_no_body() {
    let (_backend, program) = before_a_task().await;
    for known in ["\"1f\"", "\"0\", \"1f\"", "W/\"1f\"", "*"] {
        let request = with_header(program.request(Method::GET, "/v1/tasks/x", ""), "if-none-match", known);
        let answer = program.send(request).await;
        assert_eq!((answer.code, &answer.text[..], answer.header("etag")), (304, "", "\"1f\""), "{known}");
    }
    let request = with_header(program.request(Method::GET, "/v1/tasks/x", ""), "if-none-match", "\"1e\"");
    program.send(request).await.ok();
    let request = with_header(program.request(Method::POST, "/v1/tasks/x:complete", ""), "if-none-match", "\"1f\"");
    program.send(request).await.ok();
}

#[tokio::test]
async fn a_mismatch_with_a_header_is_412_and_with_the_body_409() {
    let refusal = ApiError::new(Code::Aborted, ErrorReason::EtagMismatch, "the task has changed");
    let backend = FakeBackend::start(Reply::Refuse(refusal.into())).await;
    let program = Program::before(NOBODY, &backend.url()).await;
    for (method, path, body) in [
        (Method::PATCH, "/v1/tasks/x", r#"{"title":"y"}"#),
        (Method::DELETE, "/v1/tasks/x", ""),
        (Method::POST, "/v1/tasks/x:complete", ""),
    ] {
        let request = with_header(program.request(method, path, body), "if-match", "\"1e\"");
        program.send(request).await.assert_refused(412, "ABORTED", "ETAG_MISMATCH", &[]);
    }
    let body = r#"{"title":"y","etag":"\"1e\""}"#;
    let answer = program.send(program.request(Method::PATCH, "/v1/tasks/x", body)).await;
    answer.assert_refused(409, "ABORTED", "ETAG_MISMATCH", &[]);
}

#[tokio::test]
async fn an_if_match_that_cannot_be_heeded_is_refused() {
    let (backend, program) = before_a_task().await;
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
async fn auth_service_alone_gets_token_and_address() {
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
async fn it_is_alive_even_alone() {
    let program = Program::before(NOBODY, NOBODY).await;
    let answer = program.get("/healthz").await;
    assert_eq!(answer.ok()["status"], "SERVING");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(program.send(program.request(Method::POST, "/healthz", "")).await.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn it_is_ready_when_both_services_are() {
    let (auth, task) = (healthy(ServingStatus::Serving).await, healthy(ServingStatus::Serving).await);
    assert_eq!(Program::before(&auth, &task).await.get("/readyz").await.ok()["status"], "SERVING");
}

#[tokio::test]
async fn it_says_which_service_is_not_ready() {
    let (auth, task) = (healthy(ServingStatus::Serving).await, healthy(ServingStatus::NotServing).await);
    let answer = Program::before(&auth, &task).await.get("/readyz").await;
    answer.assert_refused(503, "UNAVAILABLE", "BACKEND_UNAVAILABLE", &[]);
    assert_eq!(answer.json()["error"]["message"], "not ready: task");
    let silent = FakeBackend::start(Reply::Nothing).await;
    let answer = Program::before(&silent.url(), NOBODY).await.get("/readyz").await;
    assert_eq!(answer.json()["error"]["message"], "not ready: auth, task");
}

#[tokio::test]
async fn http2_is_spoken_too() {
    let program = Program::before(NOBODY, NOBODY).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = program.request(Method::GET, "/healthz", "");
    assert_eq!(client.request(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let program = Program::before(NOBODY, NOBODY).await;
    program.get("/healthz").await.ok();
    program.shutdown.cancel();
    program.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_token_is_read_from_a_file_that_nobody_else_reads() {
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
    for unusable in ["", "two tokens", "naïve"] {
        fs::write(&path, unusable).unwrap();
        assert!(open().await.is_err(), "{unusable:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(open().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn another_token_in_the_file_counts() {
    let folder = testing::folder();
    let path = folder.path().join("gateway.token");
    secret_file::create(&path, "taskey_service_old").unwrap();
    let token = config(&["--service-token-file", path.to_str().unwrap()]).service_token.open().await.unwrap();
    let token = token.expect("a token");
    secret_file::replace(&path, "taskey_service_new").unwrap();
    let counts = async {
        while token.header() != "taskey_service_new" {
            // The clock is paused: this is over as soon as there is nothing else to do.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = token.follow() => unreachable!("it is followed for ever"),
        () = counts => {}
    }
}
