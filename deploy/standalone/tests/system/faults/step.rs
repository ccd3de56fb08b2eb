//! Clocks that are stepped by an hour.

use std::time::Duration;

use service_kit::{assert_refused, auth::revocation::HEARTBEAT_LIMIT};
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ONE, Plan},
    people::{BREATH, knock, log_out, person, reason, refresh, until_refused},
    report::BUSY,
};
use crate::shim::Shim;

const HOUR: i64 = 3600;

/// A logout takes effect within this.
const EFFECTIVE: Duration = Duration::from_secs(1);

/// A verifier has found its peer again within this.
const SETTLED: Duration = Duration::from_secs(10);

/// For a while, who has logged out is not let in, and who has not is not turned away for good.
async fn nobody_is_mistaken(task: &Channel, live: &TokenPair, ended: &[&TokenPair]) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        for pair in ended {
            let status = knock(task, &pair.access_token).await.expect_err("an ended session is let in");
            let reason = reason(&status);
            assert!(["TOKEN_REVOKED", "VERIFIER_NOT_READY", ""].contains(&&reason[..]), "{status:?}");
        }
        if let Err(status) = knock(task, &live.access_token).await {
            assert!(["VERIFIER_NOT_READY", ""].contains(&&reason(&status)[..]), "{status:?}");
        }
        sleep(BREATH).await;
    }
}

/// The clock of auth-service alone is wrong for a while, in which it is killed and so is its verifier.
async fn no_revocation_is_lost(step: i64) {
    let shim = Shim::new();
    let mut cluster = Cluster::on_files(Plan {
        auth_environment: &shim.environment(),
        task_flags: &["--revocation-max-staleness", "0s"],
        ..ONE
    })
    .await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = person(&auth, "ann@example.com").await;
    let bob = person(&auth, "bob@example.com").await;
    let eve = person(&auth, "eve@example.com").await;
    log_out(&auth, &bob).await.expect("logged out");
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", EFFECTIVE + BUSY).await;
    shim.step_clock(step);
    log_out(&auth, &eve).await.expect("logged out");
    // An hour ahead it takes the verifier's own token for expired, and may end the feed before it has told.
    let turned_away = async {
        while knock(&task, &eve.access_token).await.is_ok() {
            sleep(BREATH).await;
        }
    };
    timeout(HEARTBEAT_LIMIT + EFFECTIVE + BUSY, turned_away).await.expect("turned away within the staleness limit");

    cluster.auth[0].kill();
    cluster.auth[0].start_again();
    nobody_is_mistaken(&task, &ann, &[&bob, &eve]).await;
    cluster.task[0].kill();
    cluster.task[0].start_again();
    nobody_is_mistaken(&task, &ann, &[&bob, &eve]).await;

    shim.step_clock(0);
    for pair in [&bob, &eve] {
        until_refused(&task, &pair.access_token, "TOKEN_REVOKED", SETTLED).await;
    }
    knock(&task, &ann.access_token).await.expect("let in again");
    // Once more from the database alone.
    cluster.auth[0].kill();
    cluster.auth[0].start_again();
    cluster.task[0].kill();
    cluster.task[0].start_again();
    cluster.ready().await;
    nobody_is_mistaken(&task, &ann, &[&bob, &eve]).await;
    let ann = refresh(&auth, &ann.refresh_token).await.expect("the session lives");
    knock(&task, &ann.access_token).await.expect("let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_lost_when_the_clock_of_auth_service_is_an_hour_ahead() {
    no_revocation_is_lost(HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_lost_when_the_clock_of_auth_service_is_an_hour_behind() {
    no_revocation_is_lost(-HOUR).await;
}

/// The clock of the machine steps, so those of all services do: the access token is of another time, and the session
/// lives.
async fn sessions_survive(step: i64, expected: &str) {
    let shim = Shim::new();
    let environment = &shim.environment();
    let cluster = Cluster::on_files(Plan { auth_environment: environment, task_environment: environment, ..ONE }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut ann = person(&auth, "ann@example.com").await;
    let bob = person(&auth, "bob@example.com").await;
    log_out(&auth, &bob).await.expect("logged out");
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", EFFECTIVE + BUSY).await;
    for (off, expected) in [(step, expected), (0, if step > 0 { "TOKEN_INVALID" } else { "TOKEN_EXPIRED" })] {
        ann = refresh(&auth, &ann.refresh_token).await.expect("the session lives");
        knock(&task, &ann.access_token).await.expect("let in");
        shim.step_clock(off);
        assert_refused!(knock(&task, &ann.access_token).await, Unauthenticated, expected);
        knock(&task, &bob.access_token).await.expect_err("refused, for whatever reason");
        ann = refresh(&auth, &ann.refresh_token).await.expect("the session lives");
        knock(&task, &ann.access_token).await.expect("let in");
    }
    assert_refused!(knock(&task, &bob.access_token).await, Unauthenticated, "TOKEN_REVOKED");
    log_out(&auth, &ann).await.expect("logged out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_that_is_set_an_hour_forward() {
    sessions_survive(HOUR, "TOKEN_EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_a_clock_that_is_set_an_hour_back() {
    sessions_survive(-HOUR, "TOKEN_INVALID").await;
}
