//! Token verification needs no I/O, which is checked by counting bytes.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, ONE_EACH},
    report::report_value,
    users::{check_token, create, log_out, reason, sign_up_and_log_in, wait_until_refused},
};

const CALLS: usize = 2000;
const CONCURRENCY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verification_costs_no_io() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let (ann, bob) =
        (sign_up_and_log_in(&auth, "ann@example.com").await, sign_up_and_log_in(&auth, "bob@example.com").await);
    create(&task, &ann.access_token, "opens the database connection").await.expect("written");
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", Duration::from_secs(5)).await;

    // From here on, only heartbeats of the feed and health checks of the database are sent.
    let bytes = || [cluster.feeds[0].bytes(), cluster.task_link().bytes()].map(|bytes| bytes.iter().sum::<u64>());
    let (begun, before) = (Instant::now(), bytes());
    sleep(Duration::from_secs(3)).await;
    let (after, idle_time) = (bytes(), begun.elapsed());
    let idle_bytes = [after[0] - before[0], after[1] - before[1]];

    let (before, begun) = (bytes(), Instant::now());
    let calls = (0..CALLS).map(async |call| {
        let is_valid = call % 2 == 0;
        let outcome = check_token(&task, if is_valid { &ann.access_token } else { &bob.access_token }).await;
        match outcome.map_err(|status| reason(&status)) {
            Ok(()) => assert!(is_valid, "a revoked token was accepted"),
            // An empty reason: the server may close a connection with many errors.
            Err(reason) => assert!(reason.is_empty() || (reason == "TOKEN_REVOKED" && !is_valid), "{reason}"),
        }
    });
    stream::iter(calls).buffer_unordered(CONCURRENCY).collect::<Vec<_>>().await;
    let (after, busy_time) = (bytes(), begun.elapsed());

    // Allow the idle traffic plus another second of it, for two heartbeats or checks. This is far less than a byte per
    // call.
    let periods = u64::try_from(busy_time.as_millis() / idle_time.as_millis() + 1).expect("a short time");
    for (number, link) in ["feed", "database"].into_iter().enumerate() {
        let (idle, busy) = (idle_bytes[number], after[number] - before[number]);
        report_value(
            link,
            format_args!(
                "{idle} bytes while idle for {idle_time:.1?}, {busy} bytes in {busy_time:.1?} with {CALLS} calls"
            ),
        );
        let expected = idle * periods;
        assert!(busy <= expected + idle / 3, "{busy} bytes on the link to the {link}, expected {expected}");
    }
}
