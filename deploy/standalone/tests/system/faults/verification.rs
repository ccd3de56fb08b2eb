//! To verify a token costs no I/O, shown by counting every byte.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, ONE},
    people::{create, knock, log_out, person, reason, until_refused},
    report::measured,
};

const CALLS: usize = 2000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verification_costs_no_io() {
    let Some(cluster) = Cluster::on_postgres(ONE).await else { return };
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let (ann, bob) = (person(&auth, "ann@example.com").await, person(&auth, "bob@example.com").await);
    create(&task, &ann.access_token, "the way to the database is open").await.expect("written");
    log_out(&auth, &bob).await.expect("logged out");
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", Duration::from_secs(5)).await;

    // Nothing but heartbeats of the feed and health checks of the database is on the way now.
    let bytes = || [cluster.feeds[0].bytes(), cluster.task_link().bytes()].map(|bytes| bytes.iter().sum::<u64>());
    let (begun, before) = (Instant::now(), bytes());
    sleep(Duration::from_secs(3)).await;
    let (after, quiet_time) = (bytes(), begun.elapsed());
    let quiet = [after[0] - before[0], after[1] - before[1]];

    let (before, begun) = (bytes(), Instant::now());
    let calls = (0..CALLS).map(async |call| {
        let good = call % 2 == 0;
        let outcome = knock(&task, if good { &ann.access_token } else { &bob.access_token }).await;
        match outcome.map_err(|status| reason(&status)) {
            Ok(()) => assert!(good, "a revoked token was accepted"),
            // A connection that has seen many refusals may be closed; that is the caller's.
            Err(reason) => assert!(reason.is_empty() || (reason == "TOKEN_REVOKED" && !good), "{reason}"),
        }
    });
    stream::iter(calls).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let (after, busy_time) = (bytes(), begun.elapsed());

    // As much as in quiet and two heartbeats or checks, which is far less than a byte for each call.
    let periods = u64::try_from(busy_time.as_millis() / quiet_time.as_millis() + 1).expect("a short time");
    for (number, link) in ["feed", "database"].into_iter().enumerate() {
        let (quiet, busy) = (quiet[number], after[number] - before[number]);
        measured(
            link,
            format_args!("{quiet} bytes in {quiet_time:.1?} of quiet, {busy} in {busy_time:.1?} of {CALLS} calls"),
        );
        let expected = quiet * periods;
        assert!(
            busy <= expected + quiet / 3,
            "{busy} bytes on the way to the {link}, of which {expected} are expected"
        );
    }
}
