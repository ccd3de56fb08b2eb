//! Concurrent and stolen refresh tokens, over two replicas.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use service_kit::assert_refused;
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ClusterConfig, TWO_EACH},
    report::{LOAD_ALLOWANCE, report_percentiles, report_value, rounds},
    users::{check_token, log_in, reason, refresh, sign_up_and_log_in, wait_until_refused},
};

/// The number of concurrent refreshes with the same token.
const CONCURRENT_REFRESHES: usize = 20;

/// Grace period: within this time after the use of its child, a reused token counts as superseded, not as stolen.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// The end of a session takes effect within this time.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// The first token of a session and its current tokens.
struct TokenChain {
    first: String,
    last: TokenPair,
    used_at: Instant,
}

/// Checks that concurrent refreshes with one token all get the same child, and that the child is valid.
async fn race(auth: &[Channel], task: &Channel, round: usize) -> (TokenChain, Duration) {
    let first = sign_up_and_log_in(&auth[round % 2], &format!("{round}@example.com")).await;
    let begun = Instant::now();
    let refreshes = (0..CONCURRENT_REFRESHES).map(|index| refresh(&auth[index % 2], &first.refresh_token));
    let mut children = HashSet::new();
    for outcome in join_all(refreshes).await {
        match outcome {
            Ok(child) => _ = children.insert(child.refresh_token),
            Err(status) => assert_eq!(reason(&status), "REFRESH_TOKEN_SUPERSEDED", "{status:?}"),
        }
    }
    let took = begun.elapsed();
    assert_eq!(children.len(), 1, "exactly one child");
    let child = children.into_iter().next().expect("exactly one child");
    let last = refresh(&auth[(round + 1) % 2], &child).await.expect("the child is valid");
    check_token(task, &last.access_token).await.expect("accepted");
    (TokenChain { first: first.refresh_token, last, used_at: Instant::now() }, took)
}

/// Reuses the first token after the grace period, which ends the session.
async fn assert_reuse_ends_the_session(auth: &[Channel], tasks: &[Channel], round: usize, chain: &TokenChain) {
    let first = &auth[round % 2];
    assert_refused!(refresh(first, &chain.first).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    for auth in auth {
        let refused = refresh(auth, &chain.last.refresh_token).await;
        assert_refused!(refused, Unauthenticated, "REFRESH_TOKEN_REUSED");
    }
    for task in tasks {
        wait_until_refused(task, &chain.last.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_refreshes_get_one_child_and_a_reused_token_ends_the_session() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    let (auth, tasks) = (cluster.auth_channels(), cluster.task_channels());
    let races = (0..rounds(50)).map(|round| race(&auth, &tasks[round % 2], round));
    // Two at a time, so that sessions do not wait for each other.
    let (chains, took): (Vec<_>, Vec<_>) =
        stream::iter(races).buffered(2).collect::<Vec<_>>().await.into_iter().unzip();
    report_percentiles(&format!("{CONCURRENT_REFRESHES} concurrent refreshes"), took);
    let begun = Instant::now();
    for (round, chain) in chains.iter().enumerate() {
        // Wait until the grace period is over.
        sleep((GRACE_PERIOD + Duration::from_millis(500)).saturating_sub(chain.used_at.elapsed())).await;
        assert_reuse_ends_the_session(&auth, &tasks, round, chain).await;
    }
    report_value("reused tokens", format_args!("{} in {:.1?}", chains.len(), begun.elapsed()));
}

/// A refresh hangs at a paused replica, and its caller retries at the other. When the first replica resumes much later,
/// it must not treat the refresh as a theft.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_that_is_served_late_does_not_end_the_session() {
    const GRACE: Duration = Duration::from_secs(1);
    let config = ClusterConfig { auth_flags: &["--refresh-grace", "1s"], ..TWO_EACH };
    let Some(cluster) = Cluster::on_postgres(config).await else { return };
    let [paused, other] = &cluster.auth_channels()[..] else { panic!("two replicas") };
    let mut sessions = Vec::new();
    for number in 0..10 {
        sessions.push(sign_up_and_log_in(paused, &format!("{number}@example.com")).await);
    }
    cluster.auth[0].pause();
    let abandoned = sessions.iter().map(|pair| timeout(GRACE / 2, refresh(paused, &pair.refresh_token)));
    assert!(join_all(abandoned).await.iter().all(Result::is_err), "a paused program responded");
    let renewed = join_all(sessions.iter().map(|pair| refresh(other, &pair.refresh_token))).await;
    sleep(GRACE * 2).await;
    cluster.auth[0].resume();
    cluster.auth[0].wait_until_ready().await;
    // The resumed replica handles the pending refreshes before this login.
    log_in(paused, "0@example.com").await.expect("the replica is resumed");
    for pair in renewed {
        let pair = refresh(other, &pair.expect("renewed").refresh_token).await.expect("the session is active");
        for task in cluster.task_channels() {
            check_token(&task, &pair.access_token).await.expect("accepted");
        }
    }
}
