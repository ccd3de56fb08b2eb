//! Floods of logins, whose hashes cost what they cost in earnest.

use std::{thread::available_parallelism, time::Duration};

use futures::future::join_all;
use taskey_proto::auth::v1::{LoginRequest, TokenPair, auth_service_client::AuthServiceClient};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    cluster::{Cluster, IN_EARNEST, ONE, Plan},
    people::{list, log_in, person, reason, refresh, wait},
    report::{BUSY, measured, percentiles},
};
use crate::process::PASSWORD;

/// How many logins come at once, and from how many addresses.
const LOGINS: usize = 500;
const ADDRESSES: u8 = 50;

/// What one hash takes.
const HASH_KIB: u64 = 19_456;

/// What everything else may take that comes with so many calls.
const REST_KIB: u64 = 64 * 1024;

/// Who is refused learns it within this.
const REFUSED: Duration = Duration::from_secs(1);

/// Who does something else is answered within this, and is asked for so many rounds at least.
const ANSWERED: Duration = Duration::from_secs(1);
const SOME: usize = 100;

/// How long a caller waits who gives up at once.
const IMPATIENCE: Duration = Duration::from_millis(10);

/// How many hashes are computed at once by default.
fn permits() -> u64 {
    let cores = available_parallelism().map_or(1, usize::from);
    u64::try_from(cores.saturating_sub(1).max(1)).expect("not that many")
}

/// A cluster with an account to log in to, and connections from all addresses.
async fn start() -> (Cluster, Vec<Channel>) {
    let cluster = Cluster::on_files(Plan { auth_flags: &IN_EARNEST, ..ONE }).await;
    person(&cluster.auth[0].channel(), "bob@example.com").await;
    let crowd: Vec<_> = (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(host)).collect();
    // Connected before it begins, so that it begins at once.
    join_all(crowd.iter().map(|auth| refresh(auth, "none"))).await;
    (cluster, crowd)
}

/// No more than so many hashes have been held at once since the memory was looked at.
fn assert_bounded(cluster: &Cluster, before: u64) {
    let [peak, _] = cluster.auth[0].memory_kib();
    let (grown, limit) = (peak.saturating_sub(before), permits() * HASH_KIB + REST_KIB);
    measured("memory", format_args!("{before} KiB, at its peak {grown} KiB more, of which {limit} are allowed"));
    assert!(grown <= limit, "{grown} KiB more than {before}, of which {limit} are allowed");
}

/// Refreshes a session and lists its tasks, one after the other, until it is stopped, and says how long each took.
async fn go_on(cluster: &Cluster, pair: &mut TokenPair, stopped: CancellationToken) -> [Vec<Duration>; 2] {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut took = [vec![], vec![]];
    while took[0].len() < SOME || !stopped.is_cancelled() {
        let begun = Instant::now();
        *pair = refresh(&auth, &pair.refresh_token).await.expect("refreshed");
        let refreshed = Instant::now();
        list(&task, &pair.access_token).await.expect("listed");
        took[0].push(refreshed - begun);
        took[1].push(refreshed.elapsed());
    }
    took
}

fn report(when: &str, took: [Vec<Duration>; 2]) {
    let [refreshes, lists] = took;
    for (what, took) in [("Refresh", refreshes), ("ListTasks", lists)] {
        let longest = percentiles(&format!("{what} {when}"), took);
        assert!(longest <= ANSWERED + BUSY, "a {what} took {longest:?}");
    }
}

/// Half of them know the password.
fn log_in_at_once(crowd: &[Channel], limit: Option<Duration>) -> JoinSet<(Result<TokenPair, Status>, Duration)> {
    let mut logins = JoinSet::new();
    for number in 0..LOGINS {
        let auth = crowd[number % crowd.len()].clone();
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
async fn a_flood_of_logins_is_bounded_in_memory_and_stops_nobody_else() {
    let (cluster, crowd) = start().await;
    let mut ann = person(&cluster.auth[0].channel(), "ann@example.com").await;
    let quiet = CancellationToken::new();
    quiet.cancel();
    report("before", go_on(&cluster, &mut ann, quiet).await);

    let [_, before] = cluster.auth[0].memory_kib();
    let over = CancellationToken::new();
    let flood = async {
        let answers = log_in_at_once(&crowd, None).join_all().await;
        over.cancel();
        answers
    };
    let (answers, meanwhile) = tokio::join!(flood, go_on(&cluster, &mut ann, over.clone()));
    report("meanwhile", meanwhile);
    assert_bounded(&cluster, before);

    let (mut evaluated, mut refused) = (vec![], vec![]);
    for (outcome, took) in answers {
        match outcome.map_err(|status| (reason(&status), wait(&status), status)) {
            Err((reason, Some(_), _)) if reason == "OVERLOADED" => refused.push(took),
            Ok(_) => evaluated.push(took),
            Err((reason, None, _)) if reason == "CREDENTIALS_INVALID" => evaluated.push(took),
            Err((.., status)) => panic!("{status:?}"),
        }
    }
    assert!(!refused.is_empty() && !evaluated.is_empty(), "{} refused", refused.len());
    percentiles("logins that were evaluated", evaluated);
    let longest = percentiles("logins that were refused", refused);
    assert!(longest <= REFUSED + BUSY, "a refusal took {longest:?}");
}

/// They are cancelled while they wait and while they are hashed. A hash cannot be stopped, so the next one has to wait
/// for its end all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_logins_do_not_escape_the_bound() {
    let (cluster, crowd) = start().await;
    let auth = cluster.auth[0].channel();
    let [_, before] = cluster.auth[0].memory_kib();
    for round in 0..4 {
        let mut logins = log_in_at_once(&crowd, (round % 2 == 0).then_some(IMPATIENCE));
        if round % 2 == 1 {
            // The first to be answered has been hashed, or refused, so the others have arrived or are about to.
            logins.join_next().await;
            logins.abort_all();
        }
        while let Some(ended) = logins.join_next().await {
            let Ok((Err(status), _)) = ended else { continue };
            let expected = [Code::DeadlineExceeded, Code::Cancelled, Code::ResourceExhausted, Code::Unauthenticated];
            assert!(expected.contains(&status.code()), "{status:?}");
        }
    }
    // Their places are free again.
    log_in(&auth, "bob@example.com").await.expect("logged in");
    assert_bounded(&cluster, before);
}
