//! Standard error is a pipe that nobody reads.

use std::{io::Read, process::Stdio, time::Duration};

use service_kit::testing::TestDatabase;
use tokio::{task::spawn_blocking, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    programs::{PROGRAMS, command},
    report::LOAD_ALLOWANCE,
    users::CALL_TIMEOUT,
};
use crate::process::Process;

/// Enough calls to fill the pipe at the level `debug`.
const CALLS: usize = 200;

/// Enough calls to fill the pipe and the queue of log lines at the level `trace`.
const MANY_CALLS: usize = 500;

/// The time limit of the end of a program that has nothing to drain.
const EXIT_LIMIT: Duration = Duration::from_secs(3);

async fn make_calls(count: usize, process: &Process, listener: &str) {
    let mut client = HealthClient::new(process.channel(listener));
    for _ in 0..count {
        let response = timeout(CALL_TIMEOUT, client.check(HealthCheckRequest::default())).await;
        response.expect("the program serves").expect("a status");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_serve_and_exit_although_nobody_reads_their_logs() {
    for (name, listeners) in PROGRAMS {
        let database = TestDatabase::sqlite();
        let mut command = command(name, &database, &["--log", "debug"]);
        let mut process = Process::spawn(command.stderr(Stdio::piped()), listeners);
        for listener in listeners {
            make_calls(CALLS, &process, listener).await;
        }
        process.signal("TERM");
        let exited = timeout(EXIT_LIMIT + LOAD_ALLOWANCE, process.wait_for_exit()).await;
        assert_eq!(exited.unwrap_or_else(|_| panic!("{name} does not exit")), Some(0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_log_lines_are_reported_in_the_log() {
    let database = TestDatabase::sqlite();
    let mut command = command("gateway", &database, &["--log", "trace"]);
    let mut process = Process::spawn(command.stderr(Stdio::piped()), &["gateway"]);
    make_calls(MANY_CALLS, &process, "gateway").await;
    let mut log = process.child.stderr.take().expect("piped");
    let read = spawn_blocking(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    make_calls(MANY_CALLS, &process, "gateway").await;
    process.signal("TERM");
    process.wait_for_exit().await;
    let log = read.await.expect("no panic").expect("UTF-8");
    assert!(log.contains("log lines were dropped"), "{} bytes", log.len());
}
