//! Refresh tokens that race and that are stolen, over two replicas.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use service_kit::assert_refused;
use taskey_proto::auth::v1::TokenPair;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, Plan, TWO},
    people::{knock, log_in, person, reason, refresh, until_refused},
    report::{BUSY, measured, percentiles, rounds},
};

/// How many refreshes race with the same token.
const RACERS: usize = 20;

/// For so long after its child was used, a token that comes again has been overtaken rather than stolen.
const OVERTAKEN: Duration = Duration::from_secs(10);

/// The end of a session takes effect within this.
const EFFECTIVE: Duration = Duration::from_secs(1);

/// The tokens of a session, from the first to the one that is good.
struct Chain {
    first: String,
    last: TokenPair,
    used_at: Instant,
}

/// Of those who race with the token of one session, all win the same child, which is good.
async fn race(auth: &[Channel], task: &Channel, round: usize) -> (Chain, Duration) {
    let first = person(&auth[round % 2], &format!("{round}@example.com")).await;
    let begun = Instant::now();
    let racers = (0..RACERS).map(|racer| refresh(&auth[racer % 2], &first.refresh_token));
    let mut children = HashSet::new();
    for outcome in join_all(racers).await {
        match outcome {
            Ok(child) => _ = children.insert(child.refresh_token),
            Err(status) => assert_eq!(reason(&status), "REFRESH_TOKEN_SUPERSEDED", "{status:?}"),
        }
    }
    let took = begun.elapsed();
    assert_eq!(children.len(), 1, "so many children live");
    let child = children.into_iter().next().expect("there is one");
    let last = refresh(&auth[(round + 1) % 2], &child).await.expect("the child is good");
    knock(task, &last.access_token).await.expect("let in");
    (Chain { first: first.refresh_token, last, used_at: Instant::now() }, took)
}

/// Who has kept the first token uses it late, and that ends the session for everyone.
async fn steal(auth: &[Channel], tasks: &[Channel], round: usize, chain: &Chain) {
    let first = &auth[round % 2];
    assert_refused!(refresh(first, &chain.first).await, Unauthenticated, "REFRESH_TOKEN_REUSED");
    for auth in auth {
        let refused = refresh(auth, &chain.last.refresh_token).await;
        assert_refused!(refused, Unauthenticated, "REFRESH_TOKEN_REUSED");
    }
    for task in tasks {
        until_refused(task, &chain.last.access_token, "TOKEN_REVOKED", EFFECTIVE + BUSY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_refreshes_one_child_lives_and_a_stolen_token_ends_the_session() {
    let Some(cluster) = Cluster::on_postgres(TWO).await else { return };
    let (auth, tasks) = (cluster.auth_channels(), cluster.task_channels());
    let races = (0..rounds(50)).map(|round| race(&auth, &tasks[round % 2], round));
    // Two at a time, so that sessions do not wait for one another.
    let (chains, took): (Vec<_>, Vec<_>) =
        stream::iter(races).buffered(2).collect::<Vec<_>>().await.into_iter().unzip();
    percentiles(&format!("{RACERS} racing refreshes"), took);
    let begun = Instant::now();
    for (round, chain) in chains.iter().enumerate() {
        // By then nobody takes it for a call that was overtaken.
        sleep((OVERTAKEN + Duration::from_millis(500)).saturating_sub(chain.used_at.elapsed())).await;
        steal(&auth, &tasks, round, chain).await;
    }
    measured("thefts", format_args!("{} in {:.1?}", chains.len(), begun.elapsed()));
}

/// A replica that hangs holds a refresh, whose caller gives up and goes to the other. When the first goes on long after,
/// it must not take that for a theft.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_served_too_late_does_not_end_the_session() {
    const GRACE: Duration = Duration::from_secs(1);
    let plan = Plan { auth_flags: &["--refresh-grace", "1s"], ..TWO };
    let Some(cluster) = Cluster::on_postgres(plan).await else { return };
    let [hangs, other] = &cluster.auth_channels()[..] else { panic!("there are two") };
    let mut sessions = Vec::new();
    for number in 0..10 {
        sessions.push(person(hangs, &format!("{number}@example.com")).await);
    }
    cluster.auth[0].stop();
    let given_up = sessions.iter().map(|pair| timeout(GRACE / 2, refresh(hangs, &pair.refresh_token)));
    assert!(join_all(given_up).await.iter().all(Result::is_err), "a stopped program has answered");
    let renewed = join_all(sessions.iter().map(|pair| refresh(other, &pair.refresh_token))).await;
    sleep(GRACE * 2).await;
    cluster.auth[0].go_on();
    cluster.auth[0].ready().await;
    // Whatever it had to do comes before this.
    log_in(hangs, "0@example.com").await.expect("it goes on");
    for pair in renewed {
        let pair = refresh(other, &pair.expect("renewed").refresh_token).await.expect("the session lives");
        for task in cluster.task_channels() {
            knock(&task, &pair.access_token).await.expect("let in");
        }
    }
}
