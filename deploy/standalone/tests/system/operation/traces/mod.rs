//! Traces: what they contain, and that a collector that fails costs nothing.

use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message;
use service_kit::testing::TestDatabase;
use tonic::Code;

use super::{get, start_taskey};
use crate::{
    faults::users::{create, list, log_in, me, sign_up_and_log_in, try_password},
    process::{PASSWORD, Process},
};

pub mod collector;
mod failures;
mod log;
mod peers;

use collector::{Collector, has_failed, hex, number, text};

/// The trace context of a client.
pub const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
pub const SPAN_ID: &str = "b7ad6b7169203331";

pub fn traceparent() -> String {
    format!("00-{TRACE_ID}-{SPAN_ID}-01")
}

async fn start(database: &TestDatabase, collector: &Collector, flags: &[&str]) -> Process {
    start_taskey(database, &[&["--otlp-endpoint", &collector.url()], flags].concat()).await
}

/// Gets the tasks over HTTP, with a trace context.
async fn list_over_http(taskey: &Process, token: &str) {
    let url = format!("http://{}/v1/tasks", taskey.address("gateway"));
    let request = Request::get(url).header("authorization", format!("Bearer {token}"));
    let request = request.header("traceparent", traceparent()).header("tracestate", "vendor=of-the-client");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.expect("a whole body");
}

fn databases(postgres: Option<TestDatabase>) -> impl Iterator<Item = (TestDatabase, &'static str)> {
    let postgres = postgres.map(|database| (database, "postgresql"));
    [(TestDatabase::sqlite(), "sqlite")].into_iter().chain(postgres)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_of_a_write_contains_request_calls_statements_and_commit() {
    for (database, system) in databases(TestDatabase::postgres().await) {
        let collector = Collector::start().await;
        let taskey = start(&database, &collector, &[]).await;
        let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
        create(&taskey.channel("gateway"), &token, "a title").await.expect("created");

        let method = "taskey.task.v1.TaskService/CreateTask";
        let is_request = |span: &Span| span.name == format!("POST /{method}");
        let request = collector.wait_for("request", is_request).await;
        assert!(request.parent_span_id.is_empty() && request.kind() == SpanKind::Server);
        assert_eq!(text(&request.attributes, "http.request.method"), "POST");
        assert_eq!(number(&request.attributes, "http.response.status_code"), 200);
        let sent = collector.wait_for_child(&request, method).await;
        assert_eq!(sent.kind(), SpanKind::Client);
        let received = collector.wait_for_child(&sent, method).await;
        assert_eq!(received.kind(), SpanKind::Server);
        for call in [&sent, &received] {
            assert_eq!(text(&call.attributes, "rpc.system"), "grpc");
            assert_eq!(text(&call.attributes, "rpc.service"), "taskey.task.v1.TaskService");
            assert_eq!(text(&call.attributes, "rpc.method"), "CreateTask");
            assert_eq!(number(&call.attributes, "rpc.grpc.status_code"), 0);
        }
        collector.wait_for_child(&received, "wait for connection").await;
        let insert = collector.wait_for_child(&received, "insert").await;
        assert_eq!(text(&insert.attributes, "db.system"), system);
        let statement = text(&insert.attributes, "db.query.text");
        assert!(statement.starts_with("insert into ") && statement.contains("$1"), "{statement}");
        let commit = collector.wait_for_child(&received, "commit").await;
        assert!(commit.start_time_unix_nano >= insert.start_time_unix_nano);
        assert!(received.end_time_unix_nano >= commit.end_time_unix_nano);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_of_a_login_contains_the_password_hash() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let taskey = start(&database, &collector, &[]).await;
    sign_up_and_log_in(&taskey.channel("gateway"), "ann@example.com").await;
    let method = "taskey.auth.v1.AuthService/Login";
    let request = collector.wait_for("request", |span| span.name == format!("POST /{method}")).await;
    let sent = collector.wait_for_child(&request, method).await;
    let received = collector.wait_for_child(&sent, method).await;
    collector.wait_for_child(&received, "hash password").await;
    collector.wait_for_child(&received, "select").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn context_of_a_client_is_linked_and_not_continued() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let taskey = start(&database, &collector, &[]).await;
    let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
    list_over_http(&taskey, &token).await;
    let request = collector.wait_for("request", |span| span.name == "GET /v1/tasks").await;
    assert_eq!(text(&request.attributes, "http.route"), "/v1/tasks");
    assert_ne!(hex(&request.trace_id), TRACE_ID);
    assert!(request.parent_span_id.is_empty() && request.trace_state.is_empty());
    let [link] = &request.links[..] else { panic!("{:?}", request.links) };
    assert_eq!((hex(&link.trace_id), hex(&link.span_id)), (TRACE_ID.to_owned(), SPAN_ID.to_owned()));
    // The service continues the trace of the gateway.
    let method = "taskey.task.v1.TaskService/ListTasks";
    let sent = collector.wait_for_child(&request, method).await;
    let received = collector.wait_for_child(&sent, method).await;
    assert!(received.links.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_fail_the_spans_of_those_who_are_responsible() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let taskey = start(&database, &collector, &[]).await;
    let auth = taskey.channel("gateway");
    sign_up_and_log_in(&auth, "ann@example.com").await;
    try_password(&auth, "ann@example.com", "a wrong password").await.expect_err("a wrong password");
    let is_refused = |span: &Span| {
        let code = span.attributes.iter().any(|attribute| attribute.key == "rpc.grpc.status_code");
        code && number(&span.attributes, "rpc.grpc.status_code") == i64::from(Code::Unauthenticated as i32)
    };
    let sent = collector.wait_for("call", |span| is_refused(span) && span.kind() == SpanKind::Client).await;
    let received = collector.wait_for_child(&sent, "taskey.auth.v1.AuthService/Login").await;
    assert!(has_failed(&sent) && !has_failed(&received));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_with_a_ratio_of_zero() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let mut taskey = start(&database, &collector, &["--trace-sample-ratio", "0"]).await;
    let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
    list_over_http(&taskey, &token).await;
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    assert!(collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_spans_are_sent_at_the_end_and_health_checks_are_not_traced() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let mut taskey = start(&database, &collector, &[]).await;
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(get(taskey.address("gateway"), path).await.0, StatusCode::OK);
    }
    assert_eq!(get(taskey.address("ops"), "/metrics").await.0, StatusCode::OK);
    let token = sign_up_and_log_in(&taskey.channel("gateway"), "ann@example.com").await.access_token;
    me(&taskey.channel("gateway"), &token).await.expect("the account");
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    let (spans, method) = (collector.spans(), "taskey.auth.v1.AccountService/GetMe");
    assert!(spans.iter().any(|span| span.name == method && span.kind() == SpanKind::Server), "{spans:#?}");
    for name in ["health", "healthz", "readyz", "openapi", "metrics"] {
        assert!(!spans.iter().any(|span| span.name.to_lowercase().contains(name)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_contain_no_secrets_and_no_data_of_users() {
    for (database, _) in databases(TestDatabase::postgres().await) {
        let collector = Collector::start().await;
        let mut taskey = start(&database, &collector, &[]).await;
        let gateway = taskey.channel("gateway");
        let pair = sign_up_and_log_in(&gateway, "canary-email@example.com").await;
        create(&gateway, &pair.access_token, "canary-title").await.expect("created");
        list(&gateway, &pair.access_token).await.expect("the tasks");
        list_over_http(&taskey, &pair.access_token).await;
        get(taskey.address("gateway"), "/v1/tasks/canary-path?canary-query=1").await;
        log_in(&gateway, "canary-unknown@example.com").await.expect_err("no account");
        taskey.signal("TERM");
        assert_eq!(taskey.wait_for_exit().await, Some(0));
        assert!(collector.spans().len() > 20);
        let bytes: Vec<u8> = collector.requests().iter().flat_map(Message::encode_to_vec).collect();
        for secret in ["canary", PASSWORD, &pair.access_token, &pair.refresh_token, "of-the-client"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
}
