//! The clock of auth-service differs from that of its verifiers by seconds.

use std::time::Duration;

use service_kit::assert_refused;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    report::LOAD_ALLOWANCE,
    users::{check_token, log_in, log_out, sign_up_and_log_in, wait_until_refused},
};
use crate::shim::Shim;

/// A difference is noticed with the next heartbeat, and a refused token at once.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_health_name_the_clock_when_auth_service_is_ahead() {
    let shim = Shim::new();
    let cluster = Cluster::on_sqlite(ClusterConfig { auth_environment: &shim.environment(), ..ONE_EACH }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    // More than the difference of 5 s that is tolerated, and enough for a busy machine.
    shim.step_clock(15);
    let fresh = log_in(&auth, "ann@example.com").await.expect("logged in");
    assert_refused!(check_token(&task, &fresh.access_token).await, Unauthenticated, "TOKEN_INVALID");
    let verifier = &cluster.task[0];
    verifier.wait_for_log("an access token was issued in the future", NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    verifier.wait_for_log("the clock of auth-service is ahead of", NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    verifier.wait_for_health_of("clock", ServingStatus::NotServing, NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    check_token(&task, &ann.access_token).await.expect("older tokens are accepted");
    verifier.wait_for_health(ServingStatus::Serving, LOAD_ALLOWANCE).await;

    shim.step_clock(0);
    verifier.wait_for_health_of("clock", ServingStatus::Serving, NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    let fresh = log_in(&auth, "ann@example.com").await.expect("logged in");
    check_token(&task, &fresh.access_token).await.expect("accepted");
}

/// Both services start while the clock of auth-service is wrong. The feed works after the clock has been corrected.
async fn assert_feed_recovers_with_the_clock(step: i64, direction: &str) {
    let shim = Shim::new();
    let mut cluster = Cluster::on_sqlite(ClusterConfig { auth_environment: &shim.environment(), ..ONE_EACH }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let bob = sign_up_and_log_in(&auth, "bob@example.com").await;
    shim.step_clock(step);
    cluster.auth[0].kill();
    cluster.auth[0].start_again();
    cluster.task[0].kill();
    cluster.task[0].start_again();
    let verifier = &cluster.task[0];
    let expected = format!("the clock of auth-service is {direction}");
    verifier.wait_for_log(&expected, NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    verifier.wait_for_health_of("clock", ServingStatus::NotServing, NOTICE_LIMIT + LOAD_ALLOWANCE).await;

    shim.step_clock(0);
    verifier.wait_for_health_of("clock", ServingStatus::Serving, NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    verifier.wait_for_health(ServingStatus::Serving, NOTICE_LIMIT + LOAD_ALLOWANCE).await;
    check_token(&task, &ann.access_token).await.expect("accepted");
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", NOTICE_LIMIT + LOAD_ALLOWANCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_recovers_when_the_clock_of_auth_service_was_half_a_minute_ahead() {
    assert_feed_recovers_with_the_clock(30, "ahead of").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_recovers_when_the_clock_of_auth_service_was_half_a_minute_behind() {
    assert_feed_recovers_with_the_clock(-30, "behind").await;
}
