//! Whose traces auth-service continues.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{GetMeRequest, account_service_client::AccountServiceClient};
use tonic::Request;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    SPAN_ID, TRACE_ID,
    collector::{Collector, hex},
    start, traceparent,
};
use crate::{
    faults::programs::command,
    process::{Process, program, wait_for_health},
};

/// Issues a service token, while auth-service runs.
fn issue_token(database: &TestDatabase) -> String {
    let url = format!("sqlite:{}", database.folder().join("auth-service.db").display());
    let mut command = Command::new(program("auth-service"));
    let output = command.args(["tokens", "issue-service", "gateway", "--database-url", &url]).output();
    String::from_utf8(output.expect("the program runs").stdout).expect("UTF-8").trim().to_owned()
}

/// Calls auth-service with a trace context and another header. The access token is missing, which does not matter.
async fn call(auth: &Process, name: &'static str, value: &str) {
    let mut request = Request::new(GetMeRequest {});
    request.metadata_mut().insert("traceparent", traceparent().parse().expect("ASCII"));
    request.metadata_mut().insert(name, value.parse().expect("ASCII"));
    AccountServiceClient::new(auth.channel("auth")).get_me(request).await.expect_err("there is no access token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_of_a_service_with_a_valid_token_is_continued() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let flags = ["--log", "warn", "--otlp-endpoint", &collector.url()];
    let auth = Process::spawn(&mut command("auth-service", &database, &flags), &["auth"]);
    wait_for_health(auth.channel("auth"), ServingStatus::Serving).await;
    let token = issue_token(&database);
    assert!(token.starts_with("taskey_service_"), "{token}");
    for (name, value, is_trusted) in [
        ("x-taskey-service-token", token.clone(), true),
        ("authorization", format!("Bearer {token}"), true),
        ("x-taskey-service-token", token.replace("taskey_service_", "taskey_service_A"), false),
        ("x-taskey-service-token", "no token".to_owned(), false),
    ] {
        let before = collector.spans().len();
        call(&auth, name, &value).await;
        collector.wait_for_count(before + 1).await;
        let span = collector.spans().pop().expect("a span");
        assert_eq!(hex(&span.trace_id) == TRACE_ID, is_trusted, "{name}");
        assert_eq!(hex(&span.parent_span_id) == SPAN_ID, is_trusted, "{name}");
        assert_eq!(span.links.len(), usize::from(!is_trusted), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_of_a_verifier_that_signs_its_own_token_is_linked() {
    let (database, collector) = (TestDatabase::sqlite(), Collector::start().await);
    let mut taskey = start(&database, &collector, &[]).await;
    let is_call = |span: &Span| span.name == "taskey.auth.v1.TokenService/WatchRevocations";
    let sent = collector.wait_for("call", |span| is_call(span) && span.kind() == SpanKind::Client).await;
    // The span of the service ends with the stream.
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    let spans = collector.spans();
    let received = spans.iter().find(|span| is_call(span) && span.kind() == SpanKind::Server).expect("a span");
    assert_ne!(received.trace_id, sent.trace_id);
    assert_eq!(received.links.iter().map(|link| &link.span_id).collect::<Vec<_>>(), [&sent.span_id]);
}
