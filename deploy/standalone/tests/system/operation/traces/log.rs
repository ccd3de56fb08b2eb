//! The id of the trace in the log.

use std::fs::File;

use serde_json::Value;
use service_kit::testing::TestDatabase;
use tonic_health::pb::health_check_response::ServingStatus;

use super::collector::{Collector, hex};
use crate::{
    faults::{programs::command, users::sign_up_and_log_in},
    process::{Process, wait_for_health},
};

/// Signs up through the gateway, and returns the trace ids of the lines about this call: of the gateway, and of the
/// service.
async fn logged_trace_ids(flags: &[&str]) -> [Option<String>; 2] {
    let database = TestDatabase::sqlite();
    let log = database.folder().join("log");
    let access_log = "info,service_kit::server::call=debug,gateway::service=debug";
    let mut command = command("taskey", &database, &["--log-format", "json", "--log", access_log]);
    command.args(["--rate-limits", "off"]).args(flags).stderr(File::create(&log).expect("the folder is writable"));
    let mut taskey = Process::spawn(&mut command, &["auth", "task", "gateway"]);
    wait_for_health(taskey.channel("gateway"), ServingStatus::Serving).await;
    sign_up_and_log_in(&taskey.channel("gateway"), "ann@example.com").await;
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    let text = std::fs::read_to_string(&log).expect("UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    ["request", "call"].map(|name| {
        let is_sign_up = |line: &&Value| {
            let span = &line["span"];
            span["name"] == name && span["rpc"] == "/taskey.auth.v1.AuthService/SignUp"
        };
        let line = lines.iter().find(is_sign_up).expect("a line");
        line["span"]["trace_id"].as_str().map(str::to_owned)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_contain_the_id_of_the_exported_trace() {
    let collector = Collector::start().await;
    let ids = logged_trace_ids(&["--otlp-endpoint", &collector.url()]).await;
    let is_sign_up = |name: &str| name == "taskey.auth.v1.AuthService/SignUp";
    let exported = collector.wait_for("call", |span| is_sign_up(&span.name)).await;
    let id = Some(hex(&exported.trace_id));
    assert_eq!(ids, [id.clone(), id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_contain_the_id_of_a_trace_that_is_not_sampled() {
    let collector = Collector::start().await;
    let [request, call] = logged_trace_ids(&["--otlp-endpoint", &collector.url(), "--trace-sample-ratio", "0"]).await;
    assert!(request.as_ref().is_some_and(|id| id.len() == 32) && request == call, "{request:?} {call:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_contain_no_trace_id_while_traces_are_off() {
    assert_eq!(logged_trace_ids(&[]).await, [None, None]);
}
