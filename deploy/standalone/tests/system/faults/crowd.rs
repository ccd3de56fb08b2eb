//! A crowd logs in, and others go on reading.

use std::{env, time::Duration};

use futures::{StreamExt, stream};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, IN_EARNEST, ONE},
    people::{BREATH, create, list, log_in, person, reason, sign_up, try_password, wait},
    report::{BUSY, measured, median, percentiles},
};

/// How many log in; with `TASKEY_TEST_ROUNDS` all of them.
const FEW: usize = 150;
const ALL: usize = 1000;

/// How many wrong passwords are tried at the same time.
const WRONG: usize = 16;

/// From how many addresses.
const ADDRESSES: usize = 50;

/// How often a list is read in quiet.
const READS: usize = 200;

/// Reading may become slower, but not beyond this many times.
const SLOWER: u32 = 20;

/// How long each of the reads took, until it is over, and as many as `READS` at least.
async fn read(task: &Channel, access_token: &str, over: &CancellationToken) -> Vec<Duration> {
    let mut took = vec![];
    while took.len() < READS || !over.is_cancelled() {
        let begun = Instant::now();
        list(task, access_token).await.expect("listed");
        took.push(begun.elapsed());
        sleep(BREATH).await;
    }
    took
}

/// Logs in, and comes again when it is told to.
async fn get_in(auth: Channel, email: String) -> usize {
    for refusals in 0.. {
        let Err(status) = log_in(&auth, &email).await else { return refusals };
        assert_eq!(reason(&status), "OVERLOADED", "{status:?}");
        sleep(wait(&status).expect("it says when to come again")).await;
    }
    unreachable!("it comes again")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_logs_in_does_not_stop_those_who_read() {
    let mut cluster = Cluster::on_files(ONE).await;
    let people = if env::var_os("TASKEY_TEST_ROUNDS").is_some() { ALL } else { FEW };
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let email = |number| format!("{number}@example.com");
    let sign_ups = (0..people).map(async |number| _ = sign_up(&auth, &email(number)).await.expect("signed up"));
    stream::iter(sign_ups).buffer_unordered(8).collect::<Vec<_>>().await;
    let ann = person(&auth, "ann@example.com").await;
    create(&task, &ann.access_token, "of Ann").await.expect("created");
    // Signing up was cheap; each login is a hash that costs what it costs in earnest.
    cluster.auth[0].kill();
    cluster.auth[0].start_again_with(&IN_EARNEST);
    cluster.ready().await;

    let over = CancellationToken::new();
    over.cancel();
    let quiet = read(&task, &ann.access_token, &over).await;

    let crowd: Vec<_> =
        (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(u8::try_from(host).expect("few"))).collect();
    let (begun, over, mut logins) = (Instant::now(), CancellationToken::new(), JoinSet::new());
    let mut guesses = JoinSet::new();
    for number in 0..people {
        logins.spawn(get_in(crowd[number % ADDRESSES].clone(), email(number)));
        if number < WRONG {
            let auth = crowd[number % ADDRESSES].clone();
            guesses.spawn(async move { try_password(&auth, "ann@example.com", "a wrong one").await.is_err() });
        }
    }
    let everyone = async {
        let refusals: usize = logins.join_all().await.into_iter().sum();
        assert!(guesses.join_all().await.into_iter().all(|refused| refused), "a wrong password was right");
        over.cancel();
        refusals
    };
    let (refusals, meanwhile) = tokio::join!(everyone, read(&task, &ann.access_token, &over));
    let took = begun.elapsed();
    measured("logins", format_args!("{people} in {took:.1?}, after {refusals} refusals; {WRONG} wrong ones"));
    let (before, during) = (median(quiet.clone()), median(meanwhile.clone()));
    percentiles("ListTasks before", quiet);
    percentiles("ListTasks meanwhile", meanwhile);
    assert!(during <= before * SLOWER + BUSY, "{during:?} rather than {before:?}");
}
