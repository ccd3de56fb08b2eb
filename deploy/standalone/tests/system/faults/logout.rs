//! How long tokens are accepted after a logout, at any replica.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use taskey_proto::auth::v1::TokenPair;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, ClusterConfig, TWO_EACH},
    postgres::Postgres,
    proxy::Mode,
    report::{report_percentiles, report_value, rounds},
    service::Service,
    users::{RETRY_PAUSE, check_token, list, log_in, log_out, reason, sign_up},
};

/// A logout takes effect within this time while the feed is up to date.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// A token counts as refused after this number of consecutive refusals.
const CONSECUTIVE_REFUSALS: usize = 10;

/// Callers per replica and round.
const CALLERS: usize = 2;

/// Calls until the token is refused consistently. Returns the time of the last response that accepted it.
async fn call_until_refused(task: Channel, token: String, reads_database: bool) -> Option<Instant> {
    let (mut last_accepted, mut refusals) = (None, 0);
    while refusals < CONSECUTIVE_REFUSALS {
        let outcome =
            if reads_database { list(&task, &token).await.map(|_| ()) } else { check_token(&task, &token).await };
        match outcome {
            Ok(()) => {
                assert_eq!(refusals, 0, "accepted again after it was refused");
                last_accepted = Some(Instant::now());
            }
            Err(status) if reason(&status) == "TOKEN_REVOKED" => refusals += 1,
            Err(status) => panic!("unexpected error: {status:?}"),
        }
    }
    last_accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_a_second_after_its_logout() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    let auth = cluster.auth_channels();
    sign_up(&auth[0], "ann@example.com").await.expect("signed up");
    let mut delays = Vec::new();
    for round in 0..rounds(100) {
        // Alternate over all pairs of replicas.
        let pair = log_in(&auth[round % 2], "ann@example.com").await.expect("logged in");
        let mut callers = JoinSet::new();
        // Each replica gets its own connection, because the server may close one with many errors.
        for task in &cluster.task_channels() {
            list(task, &pair.access_token).await.expect("accepted");
            for caller in 0..CALLERS {
                callers.spawn(call_until_refused(task.clone(), pair.access_token.clone(), caller % 2 == 0));
            }
        }
        log_out(&auth[round / 2 % 2], &pair).await.expect("logged out");
        let logged_out_at = Instant::now();
        let last_accepted = callers.join_all().await.into_iter().flatten().max();
        delays.push(
            last_accepted
                .map_or(Duration::ZERO, |last_accepted| last_accepted.saturating_duration_since(logged_out_at)),
        );
    }
    let max = report_percentiles("from the response to Logout to the last accepted call", delays);
    assert!(max <= REVOCATION_LIMIT, "accepted {max:?} after the logout");
}

/// The staleness limit of the verifiers below.
const STALENESS: Duration = Duration::from_secs(4);

/// How often each verifier was started.
type StartCounts = Arc<[AtomicUsize; 2]>;

/// Injects one fault after another until all rounds are over. Returns the number of faults.
async fn break_things(
    cluster: &mut Cluster,
    server: &Postgres,
    start_counts: &StartCounts,
    rounds_are_over: &AtomicBool,
) -> usize {
    let mut faults = 0;
    while !rounds_are_over.load(Ordering::SeqCst) {
        match faults % 6 {
            0 => restart(&mut cluster.auth[0]).await,
            1 => server.restart().await,
            2 => {
                cluster.feeds[0].set(Mode::Frozen);
                sleep(Duration::from_secs(1)).await;
            }
            3 => {
                let index = faults / 6 % 2;
                cluster.task[index].kill();
                start_counts[index].fetch_add(1, Ordering::SeqCst);
                cluster.task[index].start_again();
                cluster.task[index].wait_until_ready().await;
            }
            4 => {
                cluster.set_feed_mode(Mode::Cut);
                sleep(STALENESS / 2).await;
            }
            _ => restart(&mut cluster.auth[1]).await,
        }
        cluster.set_feed_mode(Mode::Forward);
        sleep(Duration::from_millis(500)).await;
        faults += 1;
    }
    faults
}

async fn restart(service: &mut Service) {
    service.kill();
    service.start_again();
    service.wait_until_ready().await;
}

/// When a verifier accepted a token, and the start count of the verifier at that time.
struct Accepted {
    at: Instant,
    verifier: usize,
    start_count: usize,
}

/// Calls a verifier until it refuses the token consistently, despite faults.
async fn call_through_faults(
    task: Channel,
    token: String,
    start_counts: StartCounts,
    verifier: usize,
) -> Option<Accepted> {
    let (mut last_accepted, mut refusals) = (None, 0);
    while refusals < CONSECUTIVE_REFUSALS {
        let start_count = start_counts[verifier].load(Ordering::SeqCst);
        match check_token(&task, &token).await {
            Ok(()) => {
                refusals = 0;
                last_accepted = Some(Accepted { at: Instant::now(), verifier, start_count });
            }
            Err(status) if reason(&status) == "TOKEN_REVOKED" => refusals += 1,
            Err(status) => {
                assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
                sleep(RETRY_PAUSE).await;
            }
        }
        sleep(RETRY_PAUSE).await;
    }
    last_accepted
}

/// Retries a call over all replicas until one succeeds.
async fn retry_until_success<T>(auth: &[Channel], call: impl AsyncFn(&Channel) -> Result<T, tonic::Status>) -> T {
    for auth in auth.iter().cycle() {
        match call(auth).await {
            Ok(response) => return response,
            Err(status) => assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}"),
        }
        sleep(RETRY_PAUSE).await;
    }
    unreachable!("there is a replica")
}

/// Runs one round during faults. Returns how long after the response to Logout the token was accepted: by verifiers
/// that were running at that time, and by verifiers that were started later.
async fn round_through_faults(auth: &[Channel], tasks: &[Channel], start_counts: &StartCounts) -> [Duration; 2] {
    let pair: TokenPair = retry_until_success(auth, async |auth| log_in(auth, "ann@example.com").await).await;
    let mut callers = JoinSet::new();
    for (verifier, task) in tasks.iter().enumerate() {
        callers.spawn(call_through_faults(task.clone(), pair.access_token.clone(), Arc::clone(start_counts), verifier));
    }
    retry_until_success(auth, async |auth| log_out(auth, &pair).await).await;
    let logged_out_at = Instant::now();
    let counts_at_logout = [0, 1].map(|verifier| start_counts[verifier].load(Ordering::SeqCst));
    let all = timeout(Duration::from_secs(60), callers.join_all()).await.expect("the token is refused");
    let mut delays = [Duration::ZERO; 2];
    for last_accepted in all.into_iter().flatten() {
        let delay = &mut delays[usize::from(last_accepted.start_count > counts_at_logout[last_accepted.verifier])];
        *delay = last_accepted.at.saturating_duration_since(logged_out_at).max(*delay);
    }
    delays
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_beyond_the_staleness_limit_or_after_a_restart_despite_faults() {
    let Some(server) = Postgres::start().await else { return };
    let flags = &["--revocation-max-staleness", "4s"];
    let mut cluster = Cluster::on_own_server(ClusterConfig { task_flags: flags, ..TWO_EACH }, server.upstream()).await;
    let (auth, tasks) = (cluster.auth_channels(), cluster.task_channels());
    sign_up(&auth[0], "ann@example.com").await.expect("signed up");
    let (start_counts, rounds_are_over) = (StartCounts::default(), AtomicBool::new(false));
    let all_rounds = async {
        let (mut delays, mut restarted) = (Vec::new(), Duration::ZERO);
        // Long enough for at least one fault of each kind.
        let begun = Instant::now();
        while delays.len() < rounds(100) / 2 || begun.elapsed() < Duration::from_secs(25) {
            let [running, started] = round_through_faults(&auth, &tasks, &start_counts).await;
            delays.push(running);
            restarted = started.max(restarted);
        }
        rounds_are_over.store(true, Ordering::SeqCst);
        (delays, restarted)
    };
    let ((delays, restarted), faults) =
        tokio::join!(all_rounds, break_things(&mut cluster, &server, &start_counts, &rounds_are_over));
    report_value("faults", faults);
    let max = report_percentiles("from the response to Logout to the last accepted call", delays);
    // A heartbeat that was in flight may arrive after the response to Logout.
    assert!(max <= STALENESS + REVOCATION_LIMIT, "accepted {max:?} after the logout");
    assert_eq!(restarted, Duration::ZERO, "accepted by a verifier that was started after the logout");
}
