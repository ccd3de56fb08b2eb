//! The feed of revocations, when the way to auth-service is cut, frozen or slow.

use std::time::Duration;

use service_kit::assert_refused;
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, sleep_until};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    cluster::{Cluster, ONE, Plan, TWO},
    people::{knock, log_out, person, reason, until_refused},
    proxy::Mode,
    report::{BUSY, measured},
};

/// A peer that is silent for so long is taken for dead.
const SEEN: Duration = Duration::from_secs(3);

/// A verifier has recovered so soon after its peer's return.
const RECOVERED: Duration = Duration::from_secs(2);

/// A logout takes effect within this, while the feed is fresh.
const EFFECTIVE: Duration = Duration::from_secs(1);

const STRICT: &[&str] = &["--revocation-max-staleness", "0s"];
const LENIENT: &[&str] = &["--revocation-max-staleness", "30s"];

async fn ann_and_bob(cluster: &Cluster) -> [TokenPair; 2] {
    let auth = cluster.auth[0].channel();
    [person(&auth, "ann@example.com").await, person(&auth, "bob@example.com").await]
}

/// A strict verifier stops to serve when the feed breaks, tells its health, refuses nobody for good, and knows what has
/// been revoked from the first call after the peer's return.
async fn a_strict_verifier_survives(fault: Mode) {
    let cluster = Cluster::on_files(Plan { task_flags: STRICT, ..ONE }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    knock(&task, &ann.access_token).await.expect("let in");

    let broken = Instant::now();
    cluster.feed(fault);
    let unsure = async {
        loop {
            match knock(&task, &ann.access_token).await {
                Ok(()) => {}
                Err(status) if reason(&status) == "VERIFIER_NOT_READY" => return broken.elapsed(),
                Err(status) => panic!("a good token is refused: {status:?}"),
            }
        }
    };
    let (unsure, ()) = tokio::join!(unsure, cluster.task[0].until(ServingStatus::NotServing, SEEN + BUSY));
    measured("no token accepted after", format_args!("{unsure:.1?}"));
    assert!(unsure <= SEEN + BUSY, "tokens were accepted for {unsure:?}");

    log_out(&auth, &bob).await.expect("logged out");
    let returned = Instant::now();
    cluster.feed(Mode::Forward);
    let known = async {
        loop {
            // Until it knows, it accepts nothing.
            match knock(&task, &bob.access_token).await.map_err(|status| reason(&status)) {
                Err(reason) if reason == "VERIFIER_NOT_READY" => {}
                Err(reason) if reason == "TOKEN_REVOKED" => return returned.elapsed(),
                other => panic!("a revoked token was answered with {other:?}"),
            }
        }
    };
    let (known, ()) = tokio::join!(known, cluster.task[0].until(ServingStatus::Serving, RECOVERED + BUSY));
    measured("recovered after", format_args!("{known:.1?}"));
    assert!(known <= RECOVERED + BUSY, "recovered only after {known:?}");
    knock(&task, &ann.access_token).await.expect("let in again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_verifier_survives_a_cut() {
    a_strict_verifier_survives(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_verifier_survives_a_silence_of_both_sides() {
    a_strict_verifier_survives(Mode::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_verifier_survives_a_silence_of_its_peer() {
    a_strict_verifier_survives(Mode::Mute).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lenient_verifier_goes_on_while_the_feed_is_cut_and_does_not_fill_its_log() {
    let cluster = Cluster::on_files(Plan { task_flags: LENIENT, ..ONE }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    let lines = cluster.task[0].log_lines();
    let broken = Instant::now();
    cluster.feed(Mode::Cut);
    log_out(&auth, &bob).await.expect("logged out");
    // A promise about what does not happen takes its time.
    while broken.elapsed() < Duration::from_secs(10) {
        knock(&task, &ann.access_token).await.expect("let in");
        sleep(Duration::from_millis(50)).await;
    }
    let lines = cluster.task[0].log_lines() - lines;
    measured("lines logged in 10 s", lines);
    assert!(lines < 10, "{lines} lines in ten seconds");
    let returned = Instant::now();
    cluster.feed(Mode::Forward);
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", RECOVERED + BUSY).await;
    measured("recovered after", format_args!("{:.1?}", returned.elapsed()));
    knock(&task, &ann.access_token).await.expect("let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_told_to_be_available_accepts_a_token_no_longer_than_it_lives() {
    // The leeway of 5 s comes on top.
    let cluster = Cluster::on_files(Plan {
        auth_flags: &["--access-token-ttl", "4s"],
        task_flags: &["--revocation-max-staleness", "15m"],
        ..ONE
    })
    .await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    let issued = Instant::now();
    cluster.feed(Mode::Frozen);
    log_out(&auth, &bob).await.expect("logged out");
    sleep_until(issued + SEEN + Duration::from_secs(1)).await;
    knock(&task, &ann.access_token).await.expect("let in though the feed is silent");
    until_refused(&task, &bob.access_token, "TOKEN_EXPIRED", Duration::from_secs(4 + 5) + BUSY).await;
    cluster.task[0].until(ServingStatus::Serving, BUSY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_delays_the_news_and_nothing_else() {
    const DELAY: Duration = Duration::from_secs(1);
    let cluster = Cluster::on_files(Plan { task_flags: STRICT, ..ONE }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    cluster.feed(Mode::Delay(DELAY));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        knock(&task, &ann.access_token).await.expect("heartbeats come, if late");
        sleep(Duration::from_millis(20)).await;
    }
    log_out(&auth, &bob).await.expect("logged out");
    until_refused(&task, &bob.access_token, "TOKEN_REVOKED", EFFECTIVE + DELAY + BUSY).await;
}

/// A replica that cannot read its database knows of no new revocation, so it must not keep its verifiers in good faith.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_auth_service_keeps_nobody_fresh() {
    let Some(cluster) = Cluster::on_postgres(Plan { task_flags: STRICT, ..ONE }).await else { return };
    let task = cluster.task[0].channel();
    let [ann, _] = ann_and_bob(&cluster).await;
    for fault in [Mode::Cut, Mode::Frozen] {
        knock(&task, &ann.access_token).await.expect("let in");
        cluster.auth_link().set(fault);
        cluster.task[0].until(ServingStatus::NotServing, SEEN + BUSY).await;
        let refused = knock(&task, &ann.access_token).await;
        assert_refused!(refused, Unavailable, "VERIFIER_NOT_READY");
        let returned = Instant::now();
        cluster.auth_link().set(Mode::Forward);
        cluster.task[0].until(ServingStatus::Serving, RECOVERED + BUSY).await;
        measured(&format!("{fault:?}: recovered after"), format_args!("{:.1?}", returned.elapsed()));
    }
}

/// The other replica is found so soon, and a logout there is effective.
async fn a_verifier_goes_over_to_the_other_replica(cluster: &Cluster, what: &str) {
    let auth = cluster.auth[1].channel();
    let [ann, bob] = ann_and_bob(cluster).await;
    if what == "its own is stopped" {
        cluster.auth[0].stop();
    } else {
        cluster.feeds[0].set(Mode::Frozen);
    }
    let broken = Instant::now();
    log_out(&auth, &bob).await.expect("logged out");
    for task in cluster.task_channels() {
        until_refused(&task, &bob.access_token, "TOKEN_REVOKED", SEEN + RECOVERED + BUSY).await;
        // Both may have been lost in the moment between.
        knock(&task, &ann.access_token).await.expect("let in");
    }
    measured(&format!("over to the other replica when {what}, after"), format_args!("{:.1?}", broken.elapsed()));
    if what == "its own is stopped" {
        cluster.auth[0].go_on();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_goes_over_to_another_replica_when_its_own_falls_silent() {
    let Some(cluster) = Cluster::on_postgres(TWO).await else { return };
    a_verifier_goes_over_to_the_other_replica(&cluster, "the way to its own is frozen").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_goes_over_to_another_replica_when_its_own_is_stopped() {
    let Some(cluster) = Cluster::on_postgres(TWO).await else { return };
    a_verifier_goes_over_to_the_other_replica(&cluster, "its own is stopped").await;
}
