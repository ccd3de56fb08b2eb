//! Floods of logins with the default hash costs.

use std::{thread::available_parallelism, time::Duration};

use futures::future::join_all;
use taskey_proto::auth::v1::{LoginRequest, TokenPair, auth_service_client::AuthServiceClient};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    cluster::{Cluster, ClusterConfig, DEFAULT_HASH_FLAGS, ONE_EACH},
    report::{LOAD_ALLOWANCE, report_percentiles, report_value},
    users::{CALL_TIMEOUT, list, log_in_with_retries, reason, refresh, retry_delay, sign_up_and_log_in},
};
use crate::process::PASSWORD;

/// The number of concurrent logins and of their addresses.
const LOGINS: usize = 500;
const ADDRESSES: u8 = 50;

/// The memory of one hash.
const HASH_KIB: u64 = 19_456;

/// The memory that may be used for everything else during so many calls.
const OVERHEAD_KIB: u64 = 64 * 1024;

/// A login that is refused gets its response within this time.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// Other calls get their responses within this time.
const RESPONSE_LIMIT: Duration = Duration::from_secs(1);
/// The minimum number of other calls.
const MIN_CALLS: usize = 100;

/// The deadline of callers that give up almost immediately.
const SHORT_DEADLINE: Duration = Duration::from_millis(10);

/// Returns the default number of concurrent hashes.
fn permits() -> u64 {
    let cores = available_parallelism().map_or(1, usize::from);
    u64::try_from(cores.saturating_sub(1).max(1)).expect("not that many")
}

/// Starts a cluster with an account, and connects from all addresses.
async fn start() -> (Cluster, Vec<Channel>) {
    let cluster = Cluster::on_sqlite(ClusterConfig { auth_flags: &DEFAULT_HASH_FLAGS, ..ONE_EACH }).await;
    sign_up_and_log_in(&cluster.auth[0].channel(), "bob@example.com").await;
    let channels: Vec<_> = (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(host)).collect();
    // Connect before the flood, so that all logins arrive at once.
    join_all(channels.iter().map(|auth| refresh(auth, "none"))).await;
    (cluster, channels)
}

/// Checks that the memory has grown by no more than the permitted number of concurrent hashes.
fn assert_memory_is_bounded(cluster: &Cluster, before: u64) {
    let [peak, _] = cluster.auth[0].memory_kib();
    let (grown, limit) = (peak.saturating_sub(before), permits() * HASH_KIB + OVERHEAD_KIB);
    report_value("memory", format_args!("{before} KiB before, peak {grown} KiB more, limit {limit} KiB"));
    assert!(grown <= limit, "grew by {grown} KiB from {before}, limit {limit} KiB");
}

/// Refreshes a session and lists its tasks in turn until `stopped`, and returns how long each call took.
async fn refresh_and_list(cluster: &Cluster, pair: &mut TokenPair, stopped: CancellationToken) -> [Vec<Duration>; 2] {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut took = [vec![], vec![]];
    while took[0].len() < MIN_CALLS || !stopped.is_cancelled() {
        let begun = Instant::now();
        *pair = refresh(&auth, &pair.refresh_token).await.expect("refreshed");
        let refreshed = Instant::now();
        list(&task, &pair.access_token).await.expect("listed");
        took[0].push(refreshed - begun);
        took[1].push(refreshed.elapsed());
    }
    took
}

fn report_and_check(when: &str, took: [Vec<Duration>; 2]) {
    let [refreshes, lists] = took;
    for (what, took) in [("Refresh", refreshes), ("ListTasks", lists)] {
        let longest = report_percentiles(&format!("{what} {when}"), took);
        assert!(longest <= RESPONSE_LIMIT + LOAD_ALLOWANCE, "a {what} took {longest:?}");
    }
}

/// Starts concurrent logins, half of them for an account that exists.
fn start_logins(channels: &[Channel], limit: Option<Duration>) -> JoinSet<(Result<TokenPair, Status>, Duration)> {
    let mut logins = JoinSet::new();
    for number in 0..LOGINS {
        let auth = channels[number % channels.len()].clone();
        let (email, password) = match number % 2 {
            0 => ("bob@example.com".to_owned(), PASSWORD.to_owned()),
            _ => (format!("nobody{number}@example.com"), PASSWORD.to_owned()),
        };
        let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        logins.spawn(async move {
            let begun = Instant::now();
            let outcome = AuthServiceClient::new(auth).login(request).await;
            (outcome.map(Response::into_inner), begun.elapsed())
        });
    }
    logins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_flood_is_bounded_in_memory_and_does_not_block_other_calls() {
    let (cluster, channels) = start().await;
    let mut ann = sign_up_and_log_in(&cluster.auth[0].channel(), "ann@example.com").await;
    let already_stopped = CancellationToken::new();
    already_stopped.cancel();
    report_and_check("before", refresh_and_list(&cluster, &mut ann, already_stopped).await);

    let [_, before] = cluster.auth[0].memory_kib();
    let flood_is_over = CancellationToken::new();
    let flood = async {
        let results = start_logins(&channels, None).join_all().await;
        flood_is_over.cancel();
        results
    };
    let (results, under_load) = tokio::join!(flood, refresh_and_list(&cluster, &mut ann, flood_is_over.clone()));
    report_and_check("under load", under_load);
    assert_memory_is_bounded(&cluster, before);

    let (mut evaluated, mut refused) = (vec![], vec![]);
    for (outcome, took) in results {
        match outcome.map_err(|status| (reason(&status), retry_delay(&status), status)) {
            Err((reason, Some(_), _)) if reason == "OVERLOADED" => refused.push(took),
            Ok(_) => evaluated.push(took),
            Err((reason, None, _)) if reason == "CREDENTIALS_INVALID" => evaluated.push(took),
            Err((.., status)) => panic!("{status:?}"),
        }
    }
    assert!(!refused.is_empty() && !evaluated.is_empty(), "{} refused", refused.len());
    report_percentiles("logins that were evaluated", evaluated);
    let longest = report_percentiles("logins that were refused", refused);
    assert!(longest <= REFUSAL_LIMIT + LOAD_ALLOWANCE, "a refusal took {longest:?}");
}

/// Cancels logins while they wait and while they are hashed. A running hash cannot be cancelled, so the next one must
/// still wait for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_logins_respect_the_memory_bound() {
    let (cluster, channels) = start().await;
    let auth = cluster.auth[0].channel();
    let [_, before] = cluster.auth[0].memory_kib();
    for round in 0..4 {
        let mut logins = start_logins(&channels, (round % 2 == 0).then_some(SHORT_DEADLINE));
        if round % 2 == 1 {
            // Once the first login has a result, the others have arrived or are about to.
            logins.join_next().await;
            logins.abort_all();
        }
        while let Some(ended) = logins.join_next().await {
            let Ok((Err(status), _)) = ended else { continue };
            let expected = [Code::DeadlineExceeded, Code::Cancelled, Code::ResourceExhausted, Code::Unauthenticated];
            assert!(expected.contains(&status.code()), "{status:?}");
        }
    }
    // The permits of the cancelled logins become free again, once the service has received the cancellations.
    let login = log_in_with_retries(auth, "bob@example.com".to_owned());
    timeout(CALL_TIMEOUT, login).await.expect("the permits are free again");
    assert_memory_is_bounded(&cluster, before);
}
