//! The revocation feed when the link to auth-service is cut, frozen or slow.

use std::time::Duration;

use service_kit::assert_refused;
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, sleep_until};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH, TWO_EACH},
    proxy::Mode,
    report::{LOAD_ALLOWANCE, report_value},
    users::{check_token, log_out, reason, sign_up_and_log_in, wait_until_refused},
};

/// A peer that is silent for longer than this is considered dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);

/// A verifier has recovered within this time after its peer is back.
const RECOVERY_LIMIT: Duration = Duration::from_secs(2);

/// A logout takes effect within this time while the feed is up to date.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

const STRICT: &[&str] = &["--revocation-max-staleness", "0s"];
const LENIENT: &[&str] = &["--revocation-max-staleness", "30s"];

async fn ann_and_bob(cluster: &Cluster) -> [TokenPair; 2] {
    let auth = cluster.auth[0].channel();
    [sign_up_and_log_in(&auth, "ann@example.com").await, sign_up_and_log_in(&auth, "bob@example.com").await]
}

/// Checks that a verifier without staleness stops serving when the feed breaks, reports its health, refuses valid
/// tokens only temporarily, and knows all revocations from its first call after the peer is back.
async fn assert_strict_verifier_survives(fault: Mode) {
    let cluster = Cluster::on_sqlite(ClusterConfig { task_flags: STRICT, ..ONE_EACH }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    check_token(&task, &ann.access_token).await.expect("accepted");

    let broken_at = Instant::now();
    cluster.set_feed_mode(fault);
    let not_ready = async {
        loop {
            match check_token(&task, &ann.access_token).await {
                Ok(()) => {}
                Err(status) if reason(&status) == "VERIFIER_NOT_READY" => return broken_at.elapsed(),
                Err(status) => panic!("a valid token is refused: {status:?}"),
            }
        }
    };
    let (not_ready, ()) = tokio::join!(
        not_ready,
        cluster.task[0].wait_for_health(ServingStatus::NotServing, SILENCE_LIMIT + LOAD_ALLOWANCE)
    );
    report_value("no token accepted after", format_args!("{not_ready:.1?}"));
    assert!(not_ready <= SILENCE_LIMIT + LOAD_ALLOWANCE, "tokens were accepted for {not_ready:?}");

    log_out(&auth, &bob).await.expect("logged out");
    let restored = Instant::now();
    cluster.set_feed_mode(Mode::Forward);
    let recovered = async {
        loop {
            // Until it has the revocations, it accepts no token.
            match check_token(&task, &bob.access_token).await.map_err(|status| reason(&status)) {
                Err(reason) if reason == "VERIFIER_NOT_READY" => {}
                Err(reason) if reason == "TOKEN_REVOKED" => return restored.elapsed(),
                other => panic!("unexpected result for a revoked token: {other:?}"),
            }
        }
    };
    let (recovered, ()) = tokio::join!(
        recovered,
        cluster.task[0].wait_for_health(ServingStatus::Serving, RECOVERY_LIMIT + LOAD_ALLOWANCE)
    );
    report_value("recovered after", format_args!("{recovered:.1?}"));
    assert!(recovered <= RECOVERY_LIMIT + LOAD_ALLOWANCE, "recovered only after {recovered:?}");
    check_token(&task, &ann.access_token).await.expect("accepted again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_verifier_survives_a_cut_link() {
    assert_strict_verifier_survives(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_verifier_survives_a_frozen_link() {
    assert_strict_verifier_survives(Mode::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_verifier_survives_a_silent_peer() {
    assert_strict_verifier_survives(Mode::StalledResponses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lenient_verifier_accepts_tokens_while_the_feed_is_cut_and_does_not_flood_its_log() {
    let cluster = Cluster::on_sqlite(ClusterConfig { task_flags: LENIENT, ..ONE_EACH }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    let lines = cluster.task[0].log_lines();
    let broken_at = Instant::now();
    cluster.set_feed_mode(Mode::Cut);
    log_out(&auth, &bob).await.expect("logged out");
    // Long enough to notice repeated log lines.
    while broken_at.elapsed() < Duration::from_secs(10) {
        check_token(&task, &ann.access_token).await.expect("accepted");
        sleep(Duration::from_millis(50)).await;
    }
    let lines = cluster.task[0].log_lines() - lines;
    report_value("lines logged in 10 s", lines);
    assert!(lines < 10, "{lines} lines in ten seconds");
    let restored = Instant::now();
    cluster.set_feed_mode(Mode::Forward);
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", RECOVERY_LIMIT + LOAD_ALLOWANCE).await;
    report_value("recovered after", format_args!("{:.1?}", restored.elapsed()));
    check_token(&task, &ann.access_token).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lenient_verifier_accepts_no_expired_token() {
    // A leeway of 5 s is added to the lifetime.
    let cluster = Cluster::on_sqlite(ClusterConfig {
        auth_flags: &["--access-token-ttl", "4s"],
        task_flags: &["--revocation-max-staleness", "15m"],
        ..ONE_EACH
    })
    .await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    let issued = Instant::now();
    cluster.set_feed_mode(Mode::Frozen);
    log_out(&auth, &bob).await.expect("logged out");
    sleep_until(issued + SILENCE_LIMIT + Duration::from_secs(1)).await;
    check_token(&task, &ann.access_token).await.expect("accepted although the feed is silent");
    wait_until_refused(&task, &bob.access_token, "TOKEN_EXPIRED", Duration::from_secs(4 + 5) + LOAD_ALLOWANCE).await;
    cluster.task[0].wait_for_health(ServingStatus::Serving, LOAD_ALLOWANCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_link_delays_only_revocations() {
    const DELAY: Duration = Duration::from_secs(1);
    let cluster = Cluster::on_sqlite(ClusterConfig { task_flags: STRICT, ..ONE_EACH }).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let [ann, bob] = ann_and_bob(&cluster).await;
    cluster.set_feed_mode(Mode::Delay(DELAY));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        check_token(&task, &ann.access_token).await.expect("heartbeats arrive, although late");
        sleep(Duration::from_millis(20)).await;
    }
    log_out(&auth, &bob).await.expect("logged out");
    wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + DELAY + LOAD_ALLOWANCE).await;
}

/// A replica that cannot read its database learns of no new revocation, so its verifiers must not stay ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifiers_of_an_auth_service_without_database_are_not_ready() {
    let Some(cluster) = Cluster::on_postgres(ClusterConfig { task_flags: STRICT, ..ONE_EACH }).await else { return };
    let task = cluster.task[0].channel();
    let [ann, _] = ann_and_bob(&cluster).await;
    for fault in [Mode::Cut, Mode::Frozen] {
        check_token(&task, &ann.access_token).await.expect("accepted");
        cluster.auth_link().set(fault);
        cluster.task[0].wait_for_health(ServingStatus::NotServing, SILENCE_LIMIT + LOAD_ALLOWANCE).await;
        let refused = check_token(&task, &ann.access_token).await;
        assert_refused!(refused, Unavailable, "VERIFIER_NOT_READY");
        let restored = Instant::now();
        cluster.auth_link().set(Mode::Forward);
        cluster.task[0].wait_for_health(ServingStatus::Serving, RECOVERY_LIMIT + LOAD_ALLOWANCE).await;
        report_value(&format!("{fault:?}: recovered after"), format_args!("{:.1?}", restored.elapsed()));
    }
}

/// Checks that verifiers switch to the other replica in time, and that a logout there takes effect.
async fn assert_verifier_switches_replicas(cluster: &Cluster, scenario: &str) {
    let auth = cluster.auth[1].channel();
    let [ann, bob] = ann_and_bob(cluster).await;
    if scenario == "its replica is paused" {
        cluster.auth[0].pause();
    } else {
        cluster.feeds[0].set(Mode::Frozen);
    }
    let broken_at = Instant::now();
    log_out(&auth, &bob).await.expect("logged out");
    for task in cluster.task_channels() {
        wait_until_refused(&task, &bob.access_token, "TOKEN_REVOKED", SILENCE_LIMIT + RECOVERY_LIMIT + LOAD_ALLOWANCE)
            .await;
        // A verifier that had lost both replicas would refuse this token.
        check_token(&task, &ann.access_token).await.expect("accepted");
    }
    report_value(
        &format!("switched to the other replica when {scenario}, after"),
        format_args!("{:.1?}", broken_at.elapsed()),
    );
    if scenario == "its replica is paused" {
        cluster.auth[0].resume();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifier_switches_replicas_when_its_link_is_frozen() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    assert_verifier_switches_replicas(&cluster, "the link to its replica is frozen").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifier_switches_replicas_when_its_replica_is_paused() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    assert_verifier_switches_replicas(&cluster, "its replica is paused").await;
}
