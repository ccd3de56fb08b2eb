//! SIGTERM while calls are in progress.

use std::{net::SocketAddr, time::Duration};

use service_kit::testing::TestDatabase;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    programs::{PROGRAMS, command, start_taskey},
    report::LOAD_ALLOWANCE,
    slow_body::{HEALTH, send_slowly},
    users::{CALL_TIMEOUT, RETRY_PAUSE},
};
use crate::process::{Process, channel};

const DELAY: Duration = Duration::from_secs(2);
const DELAY_FLAGS: [&str; 2] = ["--shutdown-delay", "2s"];

/// Longer than the 14 s after which calls were once aborted whatever the drain timeout was.
const CALL_SECONDS: usize = 16;

const SIGTERM: i32 = 15;

async fn health(address: SocketAddr) -> ServingStatus {
    let mut client = HealthClient::new(channel(address));
    let response = client.check(HealthCheckRequest::default());
    timeout(CALL_TIMEOUT, response).await.expect("the server responds").expect("a status").into_inner().status()
}

async fn wait_until_refused(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(RETRY_PAUSE).await;
        }
    };
    timeout(CALL_TIMEOUT, refused).await.expect("new connections are refused");
}

/// Checks that servers that are being shut down accept new connections during the delay, although health fails.
async fn assert_delayed(signalled: Instant, addresses: &[SocketAddr]) {
    for address in addresses {
        while health(*address).await != ServingStatus::NotServing {
            assert!(signalled.elapsed() < DELAY, "health does not fail");
            sleep(RETRY_PAUSE).await;
        }
    }
    while signalled.elapsed() + Duration::from_millis(500) < DELAY {
        for address in addresses {
            // Each call uses a new connection.
            assert_eq!(health(*address).await, ServingStatus::NotServing);
        }
        sleep(RETRY_PAUSE).await;
    }
    for address in addresses {
        wait_until_refused(*address).await;
    }
    assert!(signalled.elapsed() >= DELAY, "{:?}", signalled.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taskey_accepts_connections_during_the_shutdown_delay() {
    let database = TestDatabase::sqlite();
    let mut taskey = start_taskey(&database, &DELAY_FLAGS).await;
    let addresses = ["auth", "task", "gateway"].map(|name| taskey.address(name));
    for address in addresses {
        while health(address).await != ServingStatus::Serving {
            sleep(RETRY_PAUSE).await;
        }
    }
    taskey.signal("TERM");
    assert_delayed(Instant::now(), &addresses).await;
    assert_eq!(timeout(CALL_TIMEOUT, taskey.wait_for_exit()).await.expect("exits"), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_gateway_accept_connections_during_the_shutdown_delay() {
    let config = ClusterConfig { auth_flags: &DELAY_FLAGS, task_flags: &DELAY_FLAGS, ..ONE_EACH };
    let mut cluster = Cluster::on_sqlite(config).await;
    let (auth, task) = (&mut cluster.auth[0], &mut cluster.task[0]);
    let [auth_url, task_url] = [&auth, &task].map(|service| format!("http://{}", service.address()));
    let mut gateway = command("gateway", &cluster.database, &DELAY_FLAGS);
    gateway.args(["--auth-url", &auth_url, "--task-url", &task_url, "--log", "warn"]);
    let mut gateway = Process::spawn(&mut gateway, &["gateway"]);
    let address = gateway.address("gateway");
    while health(address).await != ServingStatus::Serving {
        sleep(RETRY_PAUSE).await;
    }
    gateway.signal("TERM");
    assert_delayed(Instant::now(), &[address]).await;
    assert_eq!(timeout(CALL_TIMEOUT, gateway.wait_for_exit()).await.expect("exits"), Some(0));
    auth.terminate();
    task.terminate();
    assert_delayed(Instant::now(), &[auth.address(), task.address()]).await;
    for service in [auth, task] {
        assert_eq!(timeout(CALL_TIMEOUT, service.wait_for_exit()).await.expect("exits"), Some(0));
    }
}

/// A program, its database, and a call in progress on each of its listeners.
struct Busy {
    process: Process,
    calls: JoinSet<Code>,
    _database: TestDatabase,
}

/// Starts each program, with calls that take this number of seconds.
fn start_all(flags: &[&str], seconds: usize) -> Vec<Busy> {
    let start = |(name, listeners): (&str, &[&str])| {
        let database = TestDatabase::sqlite();
        let mut program = command(name, &database, flags);
        program.args(["--request-timeout", "60s", "--log", "warn"]);
        let process = Process::spawn(&mut program, listeners);
        let channels = listeners.iter().map(|listener| process.channel(listener));
        let calls = channels.map(|channel: Channel| async move { send_slowly(channel, HEALTH, seconds).await.code() });
        let calls = calls.collect();
        Busy { process, calls, _database: database }
    };
    PROGRAMS.map(start).into()
}

/// Takes 17 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_progress_finish_within_the_drain_timeout() {
    let mut programs = start_all(&["--drain-timeout", "60s"], CALL_SECONDS);
    sleep(Duration::from_secs(1)).await;
    for Busy { process, .. } in &programs {
        process.signal("TERM");
    }
    for Busy { process, calls, .. } in &mut programs {
        for address in process.addresses.values() {
            // In `taskey`, the services accept calls of the gateway until its calls have ended.
            if process.addresses.len() == 1 || *address == process.address("gateway") {
                wait_until_refused(*address).await;
            }
        }
        while let Some(code) = calls.join_next().await {
            assert_eq!(code.expect("no panic"), Code::Ok);
        }
        let exited = timeout(CALL_TIMEOUT, process.wait_for_exit()).await;
        assert_eq!(exited.expect("exits after the last call"), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_progress_are_aborted_at_the_drain_timeout() {
    let mut programs = start_all(&["--drain-timeout", "2s"], 60);
    sleep(Duration::from_secs(1)).await;
    for Busy { process, .. } in &programs {
        process.signal("TERM");
    }
    let signalled = Instant::now();
    for Busy { process, .. } in &mut programs {
        assert_eq!(timeout(CALL_TIMEOUT, process.wait_for_exit()).await.expect("exits"), Some(0));
    }
    let elapsed = signalled.elapsed();
    let limit = Duration::from_secs(4) + LOAD_ALLOWANCE;
    assert!((Duration::from_secs(2)..limit).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_signal_ends_the_program_at_once() {
    for Busy { process, .. } in &mut start_all(&["--drain-timeout", "60s"], 60) {
        process.signal("TERM");
        let listener = if process.addresses.contains_key("gateway") { "gateway" } else { only_listener(process) };
        wait_until_refused(process.address(listener)).await;
        process.signal("TERM");
        let exited = timeout(LOAD_ALLOWANCE, process.wait_for_exit()).await.expect("exits at once");
        assert_eq!(exited, Some(128 + SIGTERM));
    }
}

fn only_listener(process: &Process) -> &str {
    process.addresses.keys().next().expect("a listener")
}
