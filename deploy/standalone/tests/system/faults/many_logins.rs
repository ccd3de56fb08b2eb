//! Many users log in while others read.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, DEFAULT_HASH_FLAGS, ONE_EACH},
    report::{LOAD_ALLOWANCE, median, report_percentiles, report_value, rounds},
    users::{RETRY_PAUSE, create, list, log_in_with_retries, sign_up, sign_up_and_log_in, try_password},
};

/// Two users log in per round.
const ROUNDS: usize = 75;

/// The number of concurrent wrong passwords.
const WRONG_PASSWORDS: usize = 16;

/// The number of client addresses.
const ADDRESSES: usize = 50;

/// The minimum number of reads.
const MIN_READS: usize = 200;

/// The maximum factor by which reads may become slower.
const MAX_SLOWDOWN: u32 = 20;

/// Reads until `stopped`, but at least `MIN_READS` times. Returns how long each read took.
async fn read(task: &Channel, access_token: &str, stopped: &CancellationToken) -> Vec<Duration> {
    let mut took = vec![];
    while took.len() < MIN_READS || !stopped.is_cancelled() {
        let begun = Instant::now();
        list(task, access_token).await.expect("listed");
        took.push(begun.elapsed());
        sleep(RETRY_PAUSE).await;
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logins_do_not_block_reads() {
    let mut cluster = Cluster::on_sqlite(ONE_EACH).await;
    let users = 2 * rounds(ROUNDS);
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let email = |number| format!("{number}@example.com");
    let sign_ups = (0..users).map(async |number| _ = sign_up(&auth, &email(number)).await.expect("signed up"));
    stream::iter(sign_ups).buffer_unordered(8).collect::<Vec<_>>().await;
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    create(&task, &ann.access_token, "of Ann").await.expect("created");
    // The sign-ups used cheap hashes. The logins use the default costs.
    cluster.auth[0].kill();
    cluster.auth[0].start_again_with(&DEFAULT_HASH_FLAGS);
    cluster.wait_until_ready().await;

    let stopped = CancellationToken::new();
    stopped.cancel();
    let idle = read(&task, &ann.access_token, &stopped).await;

    let channels: Vec<_> =
        (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(u8::try_from(host).expect("few"))).collect();
    let (begun, stopped, mut logins) = (Instant::now(), CancellationToken::new(), JoinSet::new());
    let mut guesses = JoinSet::new();
    for number in 0..users {
        logins.spawn(log_in_with_retries(channels[number % ADDRESSES].clone(), email(number)));
        if number < WRONG_PASSWORDS {
            let auth = channels[number % ADDRESSES].clone();
            guesses.spawn(async move { try_password(&auth, "ann@example.com", "a wrong one").await.is_err() });
        }
    }
    let logins_and_guesses = async {
        let errors: usize = logins.join_all().await.into_iter().sum();
        assert!(guesses.join_all().await.into_iter().all(|refused| refused), "a wrong password was accepted");
        stopped.cancel();
        errors
    };
    let (errors, under_load) = tokio::join!(logins_and_guesses, read(&task, &ann.access_token, &stopped));
    let took = begun.elapsed();
    report_value(
        "logins",
        format_args!("{users} in {took:.1?}, after {errors} errors; {WRONG_PASSWORDS} wrong passwords"),
    );
    let (before, during) = (median(idle.clone()), median(under_load.clone()));
    report_percentiles("ListTasks before", idle);
    report_percentiles("ListTasks under load", under_load);
    assert!(during <= before * MAX_SLOWDOWN + LOAD_ALLOWANCE, "{during:?} rather than {before:?}");
}
