//! Connections that end because of their age under load, and signals that must not end a program.

use std::{error::Error, time::Duration};

use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use service_kit::{assert_refused, testing::TestDatabase};
use taskey_proto::task::v1::{WatchTasksRequest, WatchTasksResponse, task_service_client::TaskServiceClient};
use tokio::time::{Instant, timeout};
use tonic::{Status, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;

use super::start_taskey;
use crate::{
    faults::{
        programs::{PROGRAMS, command},
        users::{CALL_TIMEOUT, create, list, sign_up_and_log_in},
    },
    process::{Process, bearer, wait_for_health},
};

/// Each connection is replaced several times in the time of a test.
const AGE: [&str; 2] = ["--max-connection-age", "300ms"];
/// Streams end soon after the age of their connection.
const GRACE: [&str; 2] = ["--max-connection-age-grace", "300ms"];
const LOAD_TIME: Duration = Duration::from_secs(4);

/// The number of callers at each listener.
const CALLERS: usize = 4;

/// Lists tasks over gRPC on one channel until the end.
async fn call_until(end: Instant, channel: Channel, token: &str) -> usize {
    let mut calls = 0;
    while Instant::now() < end {
        let mut listed = list(&channel, token).await;
        // Unlike other clients of gRPC, tonic (0.14) does not send a call again that its connection has refused. Such an
        // error has a cause, and those of servers have none.
        if listed.as_ref().is_err_and(|status| status.source().is_some()) {
            listed = list(&channel, token).await;
        }
        listed.expect("a call succeeds while connections are replaced");
        calls += 1;
    }
    calls
}

/// Lists tasks over HTTP/1 with one client until the end.
async fn request_until(end: Instant, gateway: &str, token: &str) -> usize {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut calls = 0;
    while Instant::now() < end {
        let request =
            Request::get(format!("http://{gateway}/v1/tasks")).header("authorization", format!("Bearer {token}"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = client.request(request).await.expect("a request succeeds while connections are replaced");
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("a whole body");
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_connections_are_replaced() {
    let database = TestDatabase::sqlite();
    // With the default grace period: the server closes an HTTP/1 connection without a request in that time, and could lose one
    // that is on its way from a client which the machine has not run for so long.
    let taskey = start_taskey(&database, &AGE).await;
    let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
    create(&taskey.channel("task"), &token, "a task").await.expect("created");
    let (end, gateway) = (Instant::now() + LOAD_TIME, taskey.address("gateway").to_string());
    let grpc = (0..CALLERS).flat_map(|_| ["task", "gateway"]).map(|name| call_until(end, taskey.channel(name), &token));
    let http = (0..CALLERS).map(|_| request_until(end, &gateway, &token));
    let (grpc, http) = tokio::join!(join_all(grpc), join_all(http));
    assert!(grpc.into_iter().chain(http).all(|calls| calls > 10));
}

/// Receives messages to the end of a stream. Returns the last token and the error.
async fn read_to_end(mut watch: tonic::Streaming<WatchTasksResponse>) -> (String, Status) {
    let mut token = String::new();
    loop {
        match timeout(CALL_TIMEOUT, watch.message()).await.expect("the stream ends") {
            Ok(message) => token = message.expect("the stream ends with a status").sync_token,
            Err(status) => return (token, status),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_old_connections_end_and_can_be_resumed() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[AGE, GRACE].concat()).await;
    let token = sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token;
    for listener in ["task", "gateway"] {
        let mut tasks = TaskServiceClient::new(taskey.channel(listener));
        let mut sync_token = String::new();
        for title in ["first", "second"] {
            create(&taskey.channel("task"), &token, title).await.expect("created");
            let request = WatchTasksRequest { sync_token };
            let mut watch = tasks.watch_tasks(bearer(&token, request)).await.expect("a stream").into_inner();
            let first = watch.message().await.expect("no error").expect("a message");
            let mut titles = first.changes.iter().filter_map(|change| change.task.as_ref()).map(|task| &task.title[..]);
            assert_eq!(titles.next_back(), Some(title), "{listener}");
            let (last_token, status) = read_to_end(watch).await;
            assert_refused!(Err::<(), _>(status), Unavailable, "SHUTTING_DOWN");
            sync_token = if last_token.is_empty() { first.sync_token } else { last_token };
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_does_not_end_a_program() {
    for (name, listeners) in PROGRAMS {
        let database = TestDatabase::sqlite();
        let mut command = command(name, &database, &["--ops-listen", "127.0.0.1:0", "--log", "warn"]);
        let process = Process::spawn(&mut command, &[listeners, &["ops"]].concat());
        process.signal("HUP");
        let is_ready = ["auth-service", "taskey"].contains(&name);
        let expected = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        wait_for_health(process.channel("ops"), expected).await;
        process.signal("HUP");
        wait_for_health(process.channel("ops"), expected).await;
    }
}
