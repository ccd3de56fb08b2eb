//! `/metrics`: its names and labels, and that no client can add a time series.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures::future::join_all;
use hyper::{Method, StatusCode};
use service_kit::testing::{TestDatabase, call_raw};
use taskey_proto::task::v1::{GetTaskRequest, WatchTasksRequest, task_service_client::TaskServiceClient};
use tokio::time::{sleep, timeout};
use tonic::{Request, transport::Channel};

use super::{get, send, start_taskey};
use crate::{
    faults::users::{create, sign_up, sign_up_and_log_in},
    process::{Process, bearer},
};

const PAUSE: Duration = Duration::from_millis(50);

/// How long a value may take to appear: it is sampled every second.
const SAMPLE_LIMIT: Duration = Duration::from_secs(10);

/// The operator's manual.
const MANUAL: &str = include_str!("../../../../README.md");

/// Returns the lines with samples.
async fn samples(ops: SocketAddr) -> Vec<String> {
    let (code, text) = get(ops, "/metrics").await;
    assert_eq!(code, StatusCode::OK);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Returns the time series: the samples without their values.
async fn series(ops: SocketAddr) -> BTreeSet<String> {
    let samples = samples(ops).await;
    samples.iter().map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

/// Returns the value of a time series, or 0 if there is none.
pub async fn value(ops: SocketAddr, series: &str) -> f64 {
    let samples = samples(ops).await;
    let value = samples.iter().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Waits until a time series has this value.
pub async fn wait_for_value(ops: SocketAddr, series: &str, expected: f64) {
    let reached = async {
        while (value(ops, series).await - expected).abs() > f64::EPSILON {
            sleep(PAUSE).await;
        }
    };
    timeout(SAMPLE_LIMIT, reached).await.unwrap_or_else(|_| panic!("{series} does not become {expected}"));
}

async fn log_in(taskey: &Process) -> String {
    sign_up_and_log_in(&taskey.channel("auth"), "ann@example.com").await.access_token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted_by_method_and_status_code() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    let (ops, token) = (taskey.address("ops"), log_in(&taskey).await);
    let mut tasks = TaskServiceClient::new(taskey.channel("task"));
    let id = create(&taskey.channel("task"), &token, "a task").await.expect("created").id;
    for _ in 0..3 {
        tasks.get_task(bearer(&token, GetTaskRequest { id: id.clone() })).await.expect("the task");
    }
    tasks.get_task(GetTaskRequest { id: id.clone() }).await.expect_err("no token");
    let watch = tasks.watch_tasks(bearer(&token, WatchTasksRequest::default())).await.expect("a stream").into_inner();

    let labels = r#"grpc_type="unary",grpc_service="taskey.task.v1.TaskService",grpc_method="GetTask""#;
    wait_for_value(ops, &format!("grpc_server_handled_total{{{labels},grpc_code=\"OK\"}}"), 3.0).await;
    wait_for_value(ops, &format!("grpc_server_handled_total{{{labels},grpc_code=\"Unauthenticated\"}}"), 1.0).await;
    wait_for_value(ops, &format!("grpc_server_started_total{{{labels}}}"), 4.0).await;
    wait_for_value(ops, &format!("grpc_server_handling_seconds_count{{{labels}}}"), 4.0).await;
    wait_for_value(ops, r#"taskey_call_errors_total{reason="TOKEN_MISSING"}"#, 1.0).await;

    let labels = r#"grpc_type="server_stream",grpc_service="taskey.task.v1.TaskService",grpc_method="WatchTasks""#;
    wait_for_value(ops, &format!("grpc_server_started_total{{{labels}}}"), 1.0).await;
    wait_for_value(ops, &format!("grpc_server_handled_total{{{labels},grpc_code=\"Canceled\"}}"), 0.0).await;
    wait_for_value(ops, "taskey_watches", 1.0).await;
    drop(watch);
    wait_for_value(ops, &format!("grpc_server_handled_total{{{labels},grpc_code=\"Canceled\"}}"), 1.0).await;
    wait_for_value(ops, "taskey_watches", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_the_gateway_are_counted_by_route() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    let (ops, gateway) = (taskey.address("ops"), taskey.address("gateway"));
    for (method, path, route, code) in [
        (Method::GET, "/v1/tasks/one", "/v1/tasks/{id}", 401),
        (Method::GET, "/v1/tasks/two", "/v1/tasks/{id}", 401),
        (Method::GET, "/openapi.json", "/openapi.json", 200),
        (Method::POST, "/no/such/path", "unmatched", 404),
    ] {
        let series = format!("http_server_requests_total{{method=\"{method}\",route=\"{route}\",code=\"{code}\"}}");
        let before = value(ops, &series).await;
        assert_eq!(send(gateway, method, path).await.0.as_u16(), code, "{path}");
        wait_for_value(ops, &series, before + 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_feed_and_connections_are_measured() {
    let databases = [Some(TestDatabase::sqlite()), TestDatabase::postgres().await];
    for database in databases.into_iter().flatten() {
        let taskey = start_taskey(&database, &[]).await;
        let ops = taskey.address("ops");
        let token = log_in(&taskey).await;
        for service in ["auth", "task"] {
            wait_for_value(ops, &format!("taskey_feed_state{{service=\"{service}\",state=\"fresh\"}}"), 1.0).await;
            assert!(value(ops, &format!("taskey_feed_lag_seconds{{service=\"{service}\"}}")).await < 3.0);
        }
        wait_for_value(ops, "taskey_feed_verifiers", 1.0).await;
        wait_for_value(ops, r#"taskey_ready{server="gateway"}"#, 1.0).await;
        let client = taskey.channel("auth");
        sign_up(&client, "bob@example.com").await.expect("signed up");
        assert!(value(ops, r#"taskey_connections{listener="auth"}"#).await >= 1.0);
        drop(client);
        assert!(!token.is_empty());
        let series = series(ops).await;
        let expected = if database.url().starts_with("postgres") {
            [
                r#"taskey_database_connections{service="auth",state="in_use"}"#,
                r#"taskey_database_max_connections{service="task"}"#,
                r#"taskey_database_waiting_calls{service="task",queue="pool"}"#,
            ]
        } else {
            [
                r#"taskey_database_commit_writes_count{service="auth"}"#,
                r#"taskey_database_waiting_calls{service="auth",queue="writes"}"#,
                r#"taskey_database_waiting_calls{service="task",queue="points"}"#,
            ]
        };
        for name in expected {
            assert!(series.contains(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_calls_are_counted_by_limit() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &["--rate-limits", "on", "--sign-up-rate", "1+1/h"]).await;
    log_in(&taskey).await;
    sign_up(&taskey.channel("auth"), "bob@example.com").await.expect_err("the rate limit is reached");
    let ops = taskey.address("ops");
    wait_for_value(ops, r#"taskey_refused_calls_total{limit="sign_up_rate"}"#, 1.0).await;
    wait_for_value(ops, r#"taskey_call_errors_total{reason="RATE_LIMITED"}"#, 1.0).await;
}

/// Sends requests whose paths, methods, headers and tokens differ in each round.
async fn send_hostile_requests(taskey: &Process, round: usize) {
    let gateway = taskey.address("gateway");
    let requests = (0..25).map(|number| async move {
        let name = format!("hostile-{round}-{number}");
        let method = Method::from_bytes(name.to_uppercase().as_bytes()).expect("a token");
        send(gateway, method, "/v1/tasks").await;
        for path in [format!("/{name}"), format!("/v1/{name}/%2e%2e?{name}={name}"), format!("/v1/tasks/{name}:{name}")]
        {
            send(gateway, Method::GET, &path).await;
            send(gateway, Method::OPTIONS, &path).await;
        }
    });
    join_all(requests).await;
    for listener in ["auth", "task", "gateway"] {
        let channel = taskey.channel(listener);
        let calls = (0..25).map(|number| call_hostile_method(channel.clone(), format!("hostile{round}x{number}")));
        join_all(calls).await;
    }
}

async fn call_hostile_method(channel: Channel, name: String) {
    let paths = [
        format!("/{name}"),
        format!("/{name}.v1.Service/Method"),
        format!("/taskey.task.v1.TaskService/{name}"),
        format!("/taskey.task.v1.TaskService/GetTask/{name}"),
        "/taskey.task.v1.TaskService/GetTask".to_owned(),
    ];
    for path in paths {
        let mut request = Request::new(name.clone().into_bytes());
        request.metadata_mut().insert("authorization", format!("Bearer {name}").parse().expect("ASCII"));
        request.metadata_mut().insert("user-agent", name.parse().expect("ASCII"));
        call_raw(&channel, &path, request).await.expect_err("refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_add_no_time_series() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &["--max-connections-per-address", "1000"]).await;
    let ops = taskey.address("ops");
    for service in ["auth", "task"] {
        wait_for_value(ops, &format!("taskey_feed_state{{service=\"{service}\",state=\"fresh\"}}"), 1.0).await;
    }
    // The first round creates the series for what is unknown.
    send_hostile_requests(&taskey, 0).await;
    let before = series(ops).await;
    for round in 1..5 {
        send_hostile_requests(&taskey, round).await;
    }
    let after = series(ops).await;
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "{added:#?}");
    assert!(!after.iter().any(|series| series.to_lowercase().contains("hostile")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_described_and_in_the_manual() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    log_in(&taskey).await;
    let (_, text) = get(taskey.address("ops"), "/metrics").await;
    let names = |kind: &str| -> BTreeSet<_> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|line| line.trim_start().split(' ').next().expect("a name").to_owned()).collect()
    };
    let (described, typed) = (names("# HELP"), names("# TYPE"));
    assert_eq!(described, typed);
    for name in typed.iter().filter(|name| !name.starts_with("process_")) {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name} is not in the manual");
    }
}
