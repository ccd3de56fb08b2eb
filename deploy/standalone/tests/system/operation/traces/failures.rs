//! Collectors that fail.

use std::{net::TcpListener, time::Duration};

use service_kit::testing::TestDatabase;
use tokio::time::{Instant, sleep, timeout};

use super::{get, start_taskey};
use crate::{
    faults::users::{create, list, sign_up_and_log_in},
    process::Process,
};

/// How long a program may take to exit: the spans are given up after a second.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

/// How long the program may take to give spans up.
const DROP_LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(100);

/// Makes calls, and ends the program.
async fn calls_succeed(mut taskey: Process) {
    let (auth, gateway) = (taskey.channel("auth"), taskey.channel("gateway"));
    let token = sign_up_and_log_in(&auth, "ann@example.com").await.access_token;
    for _ in 0..20 {
        create(&gateway, &token, "a title").await.expect("created");
    }
    assert_eq!(list(&gateway, &token).await.expect("the tasks").len(), 20);
    let drops = async {
        while !get(taskey.address("ops"), "/metrics").await.1.lines().any(is_drop) {
            sleep(PAUSE).await;
        }
    };
    timeout(DROP_LIMIT, drops).await.expect("dropped spans are counted");
    // So that spans are left at the end.
    list(&gateway, &token).await.expect("the tasks");
    let begun = Instant::now();
    taskey.signal("TERM");
    assert_eq!(taskey.wait_for_exit().await, Some(0));
    assert!(begun.elapsed() < EXIT_LIMIT, "{:?}", begun.elapsed());
}

/// Reports whether a line of `/metrics` counts dropped spans.
fn is_drop(line: &str) -> bool {
    line.starts_with("taskey_spans_dropped_total") && !line.ends_with(" 0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_collector_costs_nothing() {
    let database = TestDatabase::sqlite();
    calls_succeed(start_taskey(&database, &["--otlp-endpoint", "http://127.0.0.1:1"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collector_that_never_responds_costs_nothing() {
    // Accepts connections into its backlog and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let database = TestDatabase::sqlite();
    calls_succeed(start_taskey(&database, &["--otlp-endpoint", &url]).await).await;
}
