//! Whose traces are continued, and traces over TLS.

use opentelemetry_proto::tonic::trace::v1::Span;
use service_kit::{testing::TestDatabase, tls::Dialer};
use taskey_proto::task::v1::{ListTasksRequest, task_service_client::TaskServiceClient};
use tonic::Request;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{Files, channel, start_taskey};
use crate::{
    operation::traces::{
        SPAN_ID, TRACE_ID,
        collector::{Collector, hex},
        traceparent,
    },
    process::{Process, wait_for_health},
};

const METHOD: &str = "taskey.task.v1.TaskService/ListTasks";

/// Calls task-service with a trace context. The access token is missing, which does not matter.
async fn call(taskey: &Process, dialer: &Dialer) {
    let channel = channel(dialer, taskey.address("task"));
    wait_for_health(channel.clone(), ServingStatus::Serving).await;
    let mut request = Request::new(ListTasksRequest::default());
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", traceparent().parse().expect("ASCII"));
    metadata.insert("tracestate", "vendor=state".parse().expect("ASCII"));
    TaskServiceClient::new(channel).list_tasks(request).await.expect_err("there is no access token");
}

async fn received(collector: &Collector) -> Span {
    collector.wait_for("call", |span| span.name == METHOD).await
}

/// Starts `taskey`, whose clients may have a certificate. It records this fraction of the traces that it begins.
fn start(files: &Files, database: &TestDatabase, collector: &Collector, ratio: &str) -> Process {
    let (url, authorities) = (collector.url(), files.flag("ca.pem"));
    let tls = ["--tls-client-ca-file", &authorities, "--tls-client-auth", "optional"];
    let flags = [&["--otlp-endpoint", &url, "--trace-sample-ratio", ratio], &tls[..]].concat();
    start_taskey(database, files.folder.path(), &flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_a_service_with_a_certificate_is_continued() {
    let (files, database, collector) = (Files::new(), TestDatabase::sqlite(), Collector::start().await);
    files.write("client", &files.authority.issue(&["client"]));
    // Records no traces of its own, so the caller decides.
    let taskey = start(&files, &database, &collector, "0");
    call(&taskey, &files.dialer("ca.pem", Some("client")).await).await;
    let span = received(&collector).await;
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE_ID.to_owned(), SPAN_ID.to_owned()));
    assert_eq!(span.trace_state, "vendor=state");
    assert!(span.links.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_of_a_caller_without_a_certificate_is_linked() {
    let (files, database, collector) = (Files::new(), TestDatabase::sqlite(), Collector::start().await);
    let taskey = start(&files, &database, &collector, "1");
    call(&taskey, &files.dialer("ca.pem", None).await).await;
    let span = received(&collector).await;
    assert_ne!(hex(&span.trace_id), TRACE_ID);
    assert!(span.parent_span_id.is_empty() && span.trace_state.is_empty());
    assert_eq!(span.links.iter().map(|link| hex(&link.trace_id)).collect::<Vec<_>>(), [TRACE_ID]);
}
