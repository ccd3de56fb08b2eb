//! The listener for operators of each program, and the command that asks it.

use std::{
    net::{SocketAddr, TcpListener},
    process::Output,
    time::Duration,
};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use service_kit::testing::TestDatabase;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    process::Command,
    time::{sleep, timeout},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{get, send};
use crate::{
    faults::programs::{PROGRAMS, command},
    process::{Process, channel, program},
};

const OPS: [&str; 2] = ["--ops-listen", "127.0.0.1:0"];

/// How long a program may take to become ready, on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(20);

/// Starts a program with a listener for operators.
fn start(name: &str, database: &TestDatabase, listeners: &[&str], flags: &[&str]) -> Process {
    let mut command = command(name, database, &[&OPS, flags].concat());
    Process::spawn(command.args(["--log", "warn"]), &[listeners, &["ops"]].concat())
}

/// Waits until `/readyz` returns this code, and returns the body.
async fn wait_for_readiness(ops: SocketAddr, expected: StatusCode) -> Value {
    let reached = async {
        loop {
            let (code, body) = get(ops, "/readyz").await;
            if code == expected {
                return serde_json::from_str(&body).expect("JSON");
            }
            sleep(PAUSE).await;
        }
    };
    timeout(START_LIMIT, reached).await.expect("the program reaches this readiness")
}

async fn healthcheck(name: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program(name)).arg("healthcheck").args(flags).output().await;
    let Output { status, stdout, stderr } = output.expect("the program runs");
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_program_reports_whether_it_is_ready() {
    for (name, listeners) in PROGRAMS {
        let database = TestDatabase::sqlite();
        let process = start(name, &database, listeners, &[]);
        let ops = process.address("ops");
        // task-service and the gateway have no services to call.
        let is_ready = ["auth-service", "taskey"].contains(&name);
        let (code, status) =
            if is_ready { (StatusCode::OK, "SERVING") } else { (StatusCode::SERVICE_UNAVAILABLE, "NOT_SERVING") };
        let servers: Value = listeners.iter().map(|server| ((*server).to_owned(), json!(status))).collect();
        assert_eq!(wait_for_readiness(ops, code).await, json!({"status": status, "servers": servers}), "{name}");
        assert_eq!(get(ops, "/livez").await, (StatusCode::OK, r#"{"status":"SERVING"}"#.to_owned()), "{name}");
        let (exit_code, output) = healthcheck(name, &["--ops-listen", &ops.to_string()]).await;
        assert_eq!(exit_code, Some(i32::from(!is_ready)), "{name}: {output}");
        assert!(output.contains(status) && output.lines().count() == 1, "{name}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_program_reports_its_version() {
    for (name, listeners) in PROGRAMS {
        let database = TestDatabase::sqlite();
        let process = start(name, &database, listeners, &[]);
        let (code, body) = get(process.address("ops"), "/version").await;
        let version: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((code, &version["name"], &version["version"]), (StatusCode::OK, &json!(name), &json!("0.1.0")));
        assert!(version["rustc"].as_str().expect("a string").starts_with("rustc 1."), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_fails_during_the_shutdown_delay_and_liveness_does_not() {
    let database = TestDatabase::sqlite();
    let mut process = start("auth-service", &database, &["auth"], &["--shutdown-delay", "2s"]);
    let ops = process.address("ops");
    wait_for_readiness(ops, StatusCode::OK).await;
    process.signal("TERM");
    wait_for_readiness(ops, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(get(ops, "/livez").await.0, StatusCode::OK);
    assert_eq!(timeout(START_LIMIT, process.wait_for_exit()).await.expect("exits"), Some(0));
    assert!(TcpStream::connect(ops).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_has_the_services_of_all_servers() {
    let database = TestDatabase::sqlite();
    let process = start("taskey", &database, &["auth", "task", "gateway"], &[]);
    let ops = process.address("ops");
    wait_for_readiness(ops, StatusCode::OK).await;
    let mut client = HealthClient::new(channel(ops));
    for service in ["", "taskey.auth.v1.AuthService", "taskey.task.v1.TaskService", "clock"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.expect("a status").into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert_eq!(client.check(unknown).await.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_succeed_although_all_connections_of_the_server_are_in_use() {
    let database = TestDatabase::sqlite();
    let process = start("auth-service", &database, &["auth"], &["--max-connections", "1"]);
    wait_for_readiness(process.address("ops"), StatusCode::OK).await;
    let _only = TcpStream::connect(process.address("auth")).await.expect("connected");
    assert_eq!(get(process.address("ops"), "/readyz").await.0, StatusCode::OK);
}

/// Sends many requests for `/metrics` on one connection, and never reads a response.
async fn scrape_without_reading(ops: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut connection = socket.connect(ops).await.expect("connected");
    let requests = "GET /metrics HTTP/1.1\r\nhost: ops\r\n\r\n".repeat(1000);
    // The server stops reading as soon as it cannot write.
    _ = timeout(PAUSE, connection.write_all(requests.as_bytes())).await;
    connection
}

/// Returns the number of open connections of the listener, which includes the one that asks.
async fn connections(ops: SocketAddr) -> String {
    let (_, metrics) = get(ops, "/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix("taskey_connections{listener=\"ops\"} "));
    value.expect("a value").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scraper_that_never_reads_is_disconnected() {
    let database = TestDatabase::sqlite();
    let short = ["--keepalive-interval", "1s", "--keepalive-timeout", "1s"];
    let process = start("taskey", &database, &["auth", "task", "gateway"], &short);
    let ops = process.address("ops");
    wait_for_readiness(ops, StatusCode::OK).await;
    let until_disconnected = async || {
        let mut scrapers = Vec::new();
        for _ in 0..3 {
            scrapers.push(scrape_without_reading(ops).await);
        }
        // Others are served meanwhile.
        assert_eq!(get(ops, "/livez").await.0, StatusCode::OK);
        let disconnected = async {
            while connections(ops).await != "1" {
                sleep(PAUSE).await;
            }
        };
        timeout(START_LIMIT, disconnected).await.expect("the scrapers are disconnected");
    };
    let [before, _] = process.memory_kib();
    for _ in 0..4 {
        until_disconnected().await;
    }
    // All responses to one scraper have 300 MB together, of which only those are created that can be written. How many that
    // are depends on the load of the machine.
    let [after, _] = process.memory_kib();
    assert!(after < before + 200 * 1024, "{before} KiB, then {after} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_are_refused() {
    let database = TestDatabase::sqlite();
    let process = start("gateway", &database, &["gateway"], &[]);
    let ops = process.address("ops");
    for (method, path, expected) in [
        (Method::GET, "/", StatusCode::NOT_FOUND),
        (Method::GET, "/v1/tasks", StatusCode::NOT_FOUND),
        (Method::POST, "/livez", StatusCode::METHOD_NOT_ALLOWED),
        (Method::HEAD, "/livez", StatusCode::OK),
    ] {
        assert_eq!(send(ops, method.clone(), path).await.0, expected, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_fails_without_a_response() {
    // Accepts connections into its backlog and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).expect("an address");
    for (flags, expected) in [
        (&["--ops-listen", &silent.1, "--timeout", "100ms"][..], "does not respond within 100ms"),
        (&["--ops-listen", "127.0.0.1:1"], "cannot ask 127.0.0.1:1"),
        (&[], "set --ops-listen"),
    ] {
        let (exit_code, output) = healthcheck("taskey", flags).await;
        assert_eq!(exit_code, Some(1), "{flags:?}: {output}");
        assert!(output.contains(expected) && output.lines().count() == 1, "{output}");
    }
}
