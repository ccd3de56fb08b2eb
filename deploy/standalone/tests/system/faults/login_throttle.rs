//! Password guessing from many addresses at once.

use std::time::Duration;

use futures::future::join_all;
use service_kit::assert_refused;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    cluster::{Cluster, ClusterConfig, DEFAULT_HASH_FLAGS, ONE_EACH},
    report::{LOAD_ALLOWANCE, report_value},
    users::{check_token, create, list, log_in, reason, refresh, retry_delay, sign_up_and_log_in, try_password},
};

/// The number of guesses and of the addresses that they come from.
const GUESSES: usize = 200;
const ADDRESSES: u8 = 50;

/// The address of the account's owner.
const OWNER_ADDRESS: u8 = 99;

/// The maximum number of guesses that may be evaluated.
const MAX_EVALUATED: usize = 100;

/// The maximum delay after this number of wrong passwords.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// The number of calls of the owner during the guesses.
const OWNER_CALLS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_from_many_addresses_are_throttled_without_locking_out_the_owner() {
    let flags = [&DEFAULT_HASH_FLAGS[..], &["--rate-limits", "on"]].concat();
    let cluster =
        Cluster::on_sqlite(ClusterConfig { auth_flags: &flags, task_flags: &["--rate-limits", "on"], ..ONE_EACH })
            .await;
    let (owner_auth, task) = (cluster.auth[0].channel_from(OWNER_ADDRESS), cluster.task[0].channel_from(OWNER_ADDRESS));
    let mut ann = sign_up_and_log_in(&owner_auth, "ann@example.com").await;
    create(&task, &ann.access_token, "of Ann").await.expect("created");

    let attackers: Vec<_> = (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(host)).collect();
    join_all(attackers.iter().map(|auth| refresh(auth, "none"))).await;
    let mut guesses = JoinSet::new();
    for number in 0..GUESSES {
        let auth = attackers[number % attackers.len()].clone();
        let guess = async move { try_password(&auth, "ann@example.com", &format!("guess number {number}")).await };
        guesses.spawn(guess);
    }
    let owner = async {
        for _ in 0..OWNER_CALLS {
            assert_eq!(list(&task, &ann.access_token).await.expect("listed").len(), 1);
            ann = refresh(&owner_auth, &ann.refresh_token).await.expect("refreshed");
        }
    };
    let (outcomes, ()) = tokio::join!(guesses.join_all(), owner);
    let refusals: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect_err("a guess was right")).collect();
    let evaluated = refusals.iter().filter(|status| reason(status) == "CREDENTIALS_INVALID").count();
    report_value("guesses", format_args!("{evaluated} of {GUESSES} evaluated"));
    assert!((1..=MAX_EVALUATED).contains(&evaluated), "{evaluated} were evaluated");
    let mut limited = 0;
    for refused in refusals.into_iter().filter(|status| reason(status) != "CREDENTIALS_INVALID") {
        // On a machine that is busy with other tests, some guesses may time out.
        if !["DEADLINE_EXCEEDED", "STORE_UNAVAILABLE", "OVERLOADED"].contains(&&reason(&refused)[..]) {
            limited += 1;
            assert!(retry_delay(&refused).is_some(), "{refused:?}");
            assert_refused!(Err::<(), _>(refused), ResourceExhausted, "RATE_LIMITED");
        }
    }
    assert!(limited >= MAX_EVALUATED, "{limited} were rate limited");

    // The correct password is checked only after the delay, and then succeeds. If guesses timed out, the owner may have
    // to wait more than once.
    let (begun, mut delays) = (Instant::now(), vec![]);
    let again = loop {
        match log_in(&owner_auth, "ann@example.com").await {
            Ok(pair) => break pair,
            Err(refused) => {
                let delay = retry_delay(&refused).expect("a rate limit error has a delay");
                assert_refused!(Err::<(), _>(refused), ResourceExhausted, "RATE_LIMITED");
                delays.push(delay);
                assert!(begun.elapsed() <= MAX_DELAY + LOAD_ALLOWANCE, "still refused: {delays:?}");
                // The delay starts with the response, not with the request.
                sleep(delay).await;
            }
        }
    };
    report_value("the owner logged in after", format_args!("{:.1?}, delays: {delays:.1?}", begun.elapsed()));
    assert!(delays.len() <= 1 || evaluated + limited < GUESSES, "rate limited again: {delays:?}");
    for pair in [&ann, &again] {
        check_token(&task, &pair.access_token).await.expect("accepted");
    }
}
