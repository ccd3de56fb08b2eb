//! Clock steps of an hour.

use std::time::Duration;

use service_kit::{assert_refused, auth::revocation::HEARTBEAT_LIMIT};
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    report::LOAD_ALLOWANCE,
    users::{RETRY_PAUSE, check_token, log_out, reason, refresh, sign_up_and_log_in, wait_until_refused},
};
use crate::shim::Shim;

const HOUR: i64 = 3600;

/// A logout takes effect within this time.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// A verifier reconnects to auth-service within this time.
const RECONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Checks for a while that ended sessions are never accepted and that the active one is at most refused temporarily.
async fn assert_tokens_stay_correct(task: &Channel, active: &TokenPair, ended: &[&TokenPair]) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        for pair in ended {
            let status = check_token(task, &pair.access_token).await.expect_err("an ended session is accepted");
            let reason = reason(&status);
            assert!(["TOKEN_REVOKED", "VERIFIER_NOT_READY", ""].contains(&&reason[..]), "{status:?}");
        }
        if let Err(status) = check_token(task, &active.access_token).await {
            assert!(["VERIFIER_NOT_READY", ""].contains(&&reason(&status)[..]), "{status:?}");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Steps the clock of auth-service only. While it is wrong, auth-service and its verifier are killed and restarted.
async fn assert_no_revocation_is_lost(step: i64) {
    let shim = Shim::new();
    let mut cluster = Cluster::on_sqlite(ClusterConfig {
        auth_environment: &shim.environment(),
        task_flags: &["--revocation-max-staleness", "0s"],
        ..ONE_EACH
    })
    .await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let bob = sign_up_and_log_in(&auth, "bob@example.com").await;
    let eve = sign_up_and_log_in(&auth, "eve@example.com").await;
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
    shim.step_clock(step);
    log_out(&auth, &eve).await.expect("logged out");
    // An hour ahead, auth-service considers the verifier's token expired, so it may end the feed before it sends the
    // revocation.
    let refused = async {
        while check_token(&task, &eve.access_token).await.is_ok() {
            sleep(RETRY_PAUSE).await;
        }
    };
    timeout(HEARTBEAT_LIMIT + REVOCATION_LIMIT + LOAD_ALLOWANCE, refused)
        .await
        .expect("refused within the staleness limit");

    cluster.auth[0].kill();
    cluster.auth[0].start_again();
    assert_tokens_stay_correct(&task, &ann, &[&bob, &eve]).await;
    cluster.task[0].kill();
    cluster.task[0].start_again();
    assert_tokens_stay_correct(&task, &ann, &[&bob, &eve]).await;

    shim.step_clock(0);
    for pair in [&bob, &eve] {
        wait_until_refused(&task, &pair.access_token, "TOKEN_REVOKED", RECONNECT_LIMIT).await;
    }
    check_token(&task, &ann.access_token).await.expect("accepted again");
    // Once more after a restart, when only the database has the revocations.
    cluster.auth[0].kill();
    cluster.auth[0].start_again();
    cluster.task[0].kill();
    cluster.task[0].start_again();
    cluster.wait_until_ready().await;
    assert_tokens_stay_correct(&task, &ann, &[&bob, &eve]).await;
    let ann = refresh(&auth, &ann.refresh_token).await.expect("the session is active");
    check_token(&task, &ann.access_token).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_lost_when_the_clock_of_auth_service_is_an_hour_ahead() {
    assert_no_revocation_is_lost(HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_lost_when_the_clock_of_auth_service_is_an_hour_behind() {
    assert_no_revocation_is_lost(-HOUR).await;
}

/// Steps the clocks of all services together: access tokens become invalid, but sessions survive.
async fn assert_sessions_survive(step: i64, expected: &str) {
    let shim = Shim::new();
    let environment = &shim.environment();
    let cluster =
        Cluster::on_sqlite(ClusterConfig { auth_environment: environment, task_environment: environment, ..ONE_EACH })
            .await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let bob = sign_up_and_log_in(&auth, "bob@example.com").await;
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
    for (offset, expected) in [(step, expected), (0, if step > 0 { "TOKEN_INVALID" } else { "TOKEN_EXPIRED" })] {
        ann = refresh(&auth, &ann.refresh_token).await.expect("the session is active");
        check_token(&task, &ann.access_token).await.expect("accepted");
        shim.step_clock(offset);
        assert_refused!(check_token(&task, &ann.access_token).await, Unauthenticated, expected);
        check_token(&task, &bob.access_token).await.expect_err("refused for any reason");
        ann = refresh(&auth, &ann.refresh_token).await.expect("the session is active");
        check_token(&task, &ann.access_token).await.expect("accepted");
    }
    assert_refused!(check_token(&task, &bob.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    log_out(&auth, &ann).await.expect("logged out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_step_of_an_hour_forward() {
    assert_sessions_survive(HOUR, "TOKEN_EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_step_of_an_hour_back() {
    assert_sessions_survive(-HOUR, "TOKEN_INVALID").await;
}
