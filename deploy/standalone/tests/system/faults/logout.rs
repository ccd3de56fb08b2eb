//! How long after a logout its tokens are still accepted, anywhere.

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
    cluster::{Cluster, Plan, TWO},
    people::{BREATH, knock, list, log_in, log_out, reason, sign_up},
    postgres::Postgres,
    proxy::Mode,
    report::{measured, percentiles, rounds},
    service::Service,
};

/// A logout takes effect within this, while the feed is fresh.
const EFFECTIVE: Duration = Duration::from_secs(1);

/// Who was refused is refused again, so many times in a row.
const AGAIN: usize = 10;

/// How many callers each replica has in a round.
const CALLERS: usize = 2;

/// Calls until the token has been refused for good, and gives the moment of the last answer by which it was accepted.
async fn call_until_refused(task: Channel, token: String, through_the_database: bool) -> Option<Instant> {
    let (mut accepted, mut refused) = (None, 0);
    while refused < AGAIN {
        let outcome =
            if through_the_database { list(&task, &token).await.map(|_| ()) } else { knock(&task, &token).await };
        match outcome {
            Ok(()) => {
                assert_eq!(refused, 0, "accepted again after it was refused");
                accepted = Some(Instant::now());
            }
            Err(status) if reason(&status) == "TOKEN_REVOKED" => refused += 1,
            Err(status) => panic!("a call was answered with {status:?}"),
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_a_second_after_its_logout() {
    let Some(cluster) = Cluster::on_postgres(TWO).await else { return };
    let auth = cluster.auth_channels();
    sign_up(&auth[0], "ann@example.com").await.expect("signed up");
    let mut late = Vec::new();
    for round in 0..rounds(100) {
        // Every pair of replicas has its turn.
        let pair = log_in(&auth[round % 2], "ann@example.com").await.expect("logged in");
        let mut callers = JoinSet::new();
        // Connections of their own: one that has seen many refusals may be closed.
        for task in &cluster.task_channels() {
            list(task, &pair.access_token).await.expect("let in");
            for caller in 0..CALLERS {
                callers.spawn(call_until_refused(task.clone(), pair.access_token.clone(), caller % 2 == 0));
            }
        }
        log_out(&auth[round / 2 % 2], &pair).await.expect("logged out");
        let answered = Instant::now();
        let accepted = callers.join_all().await.into_iter().flatten().max();
        late.push(accepted.map_or(Duration::ZERO, |accepted| accepted.saturating_duration_since(answered)));
    }
    let max = percentiles("from the answer to Logout to the last accepted call", late);
    assert!(max <= EFFECTIVE, "accepted {max:?} after the logout");
}

/// How stale the verifiers below may be.
const STALENESS: Duration = Duration::from_secs(4);

/// Where each verifier stands: how often it was started.
type Lives = Arc<[AtomicUsize; 2]>;

/// What breaks, one after the other, for as long as the rounds go on.
async fn break_things(cluster: &mut Cluster, server: &Postgres, lives: &Lives, over: &AtomicBool) -> usize {
    let mut faults = 0;
    while !over.load(Ordering::SeqCst) {
        match faults % 6 {
            0 => restart(&mut cluster.auth[0]).await,
            1 => server.restart().await,
            2 => {
                cluster.feeds[0].set(Mode::Frozen);
                sleep(Duration::from_secs(1)).await;
            }
            3 => {
                let which = faults / 6 % 2;
                cluster.task[which].kill();
                lives[which].fetch_add(1, Ordering::SeqCst);
                cluster.task[which].start_again();
                cluster.task[which].ready().await;
            }
            4 => {
                cluster.feed(Mode::Cut);
                sleep(STALENESS / 2).await;
            }
            _ => restart(&mut cluster.auth[1]).await,
        }
        cluster.feed(Mode::Forward);
        sleep(Duration::from_millis(500)).await;
        faults += 1;
    }
    faults
}

async fn restart(service: &mut Service) {
    service.kill();
    service.start_again();
    service.ready().await;
}

/// When a verifier accepted a token, and in which of its lives.
struct Accepted {
    at: Instant,
    verifier: usize,
    life: usize,
}

/// Calls a verifier until it has refused the token for good, whatever breaks meanwhile.
async fn call_through_faults(task: Channel, token: String, lives: Lives, verifier: usize) -> Option<Accepted> {
    let (mut accepted, mut refused) = (None, 0);
    while refused < AGAIN {
        let life = lives[verifier].load(Ordering::SeqCst);
        match knock(&task, &token).await {
            Ok(()) => {
                refused = 0;
                accepted = Some(Accepted { at: Instant::now(), verifier, life });
            }
            Err(status) if reason(&status) == "TOKEN_REVOKED" => refused += 1,
            Err(status) => {
                assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
                sleep(BREATH).await;
            }
        }
        sleep(BREATH).await;
    }
    accepted
}

/// Asks one replica after the other until one has answered.
async fn until_done<T>(auth: &[Channel], call: impl AsyncFn(&Channel) -> Result<T, tonic::Status>) -> T {
    for auth in auth.iter().cycle() {
        match call(auth).await {
            Ok(answer) => return answer,
            Err(status) => assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}"),
        }
        sleep(BREATH).await;
    }
    unreachable!("there is a replica")
}

/// A round through faults: how long after the answer to Logout the token was accepted, by a verifier that ran then and
/// by one that was started later.
async fn round_through_faults(auth: &[Channel], tasks: &[Channel], lives: &Lives) -> [Duration; 2] {
    let pair: TokenPair = until_done(auth, async |auth| log_in(auth, "ann@example.com").await).await;
    let mut callers = JoinSet::new();
    for (verifier, task) in tasks.iter().enumerate() {
        callers.spawn(call_through_faults(task.clone(), pair.access_token.clone(), Arc::clone(lives), verifier));
    }
    until_done(auth, async |auth| log_out(auth, &pair).await).await;
    let answered = Instant::now();
    let running = [0, 1].map(|verifier| lives[verifier].load(Ordering::SeqCst));
    let all = timeout(Duration::from_secs(60), callers.join_all()).await.expect("refused in the end");
    let mut late = [Duration::ZERO; 2];
    for accepted in all.into_iter().flatten() {
        let late = &mut late[usize::from(accepted.life > running[accepted.verifier])];
        *late = accepted.at.saturating_duration_since(answered).max(*late);
    }
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_accepted_beyond_the_staleness_limit_nor_after_a_restart_whatever_breaks() {
    let Some(server) = Postgres::start().await else { return };
    let flags = &["--revocation-max-staleness", "4s"];
    let mut cluster = Cluster::on_server(Plan { task_flags: flags, ..TWO }, server.upstream()).await;
    let (auth, tasks) = (cluster.auth_channels(), cluster.task_channels());
    sign_up(&auth[0], "ann@example.com").await.expect("signed up");
    let (lives, over) = (Lives::default(), AtomicBool::new(false));
    let all_rounds = async {
        let (mut late, mut restarted) = (Vec::new(), Duration::ZERO);
        // At least one of each fault has its turn.
        let begun = Instant::now();
        while late.len() < rounds(100) / 2 || begun.elapsed() < Duration::from_secs(25) {
            let [running, started] = round_through_faults(&auth, &tasks, &lives).await;
            late.push(running);
            restarted = started.max(restarted);
        }
        over.store(true, Ordering::SeqCst);
        (late, restarted)
    };
    let ((late, restarted), faults) = tokio::join!(all_rounds, break_things(&mut cluster, &server, &lives, &over));
    measured("faults", faults);
    let max = percentiles("from the answer to Logout to the last accepted call", late);
    // A heartbeat that was under way may arrive after the answer.
    assert!(max <= STALENESS + EFFECTIVE, "accepted {max:?} after the logout");
    assert_eq!(restarted, Duration::ZERO, "accepted by a verifier that was started after the logout");
}
