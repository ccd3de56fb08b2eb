//! Somebody guesses a password from many addresses at once.

use std::time::Duration;

use futures::future::join_all;
use service_kit::assert_refused;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    cluster::{Cluster, IN_EARNEST, ONE, Plan},
    people::{create, knock, list, log_in, person, reason, refresh, try_password, wait},
    report::{BUSY, measured},
};

/// How many guesses there are, and from how many addresses.
const GUESSES: usize = 200;
const ADDRESSES: u8 = 50;

/// The owner is at yet another address.
const HOME: u8 = 99;

/// So many may be evaluated.
const EVALUATED: usize = 100;

/// Nobody has to wait for longer after so few wrong passwords.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often the owner does something meanwhile.
const TIMES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_from_many_addresses_are_few_and_do_not_shut_the_owner_out() {
    let flags = [&IN_EARNEST[..], &["--rate-limits", "on"]].concat();
    let cluster = Cluster::on_files(Plan { auth_flags: &flags, task_flags: &["--rate-limits", "on"], ..ONE }).await;
    let (home, task) = (cluster.auth[0].channel_from(HOME), cluster.task[0].channel_from(HOME));
    let mut ann = person(&home, "ann@example.com").await;
    create(&task, &ann.access_token, "of Ann").await.expect("created");

    let crowd: Vec<_> = (1..=ADDRESSES).map(|host| cluster.auth[0].channel_from(host)).collect();
    join_all(crowd.iter().map(|auth| refresh(auth, "none"))).await;
    let mut guesses = JoinSet::new();
    for number in 0..GUESSES {
        let auth = crowd[number % crowd.len()].clone();
        let guess = async move { try_password(&auth, "ann@example.com", &format!("guess number {number}")).await };
        guesses.spawn(guess);
    }
    let owner = async {
        for _ in 0..TIMES {
            assert_eq!(list(&task, &ann.access_token).await.expect("listed").len(), 1);
            ann = refresh(&home, &ann.refresh_token).await.expect("refreshed");
        }
    };
    let (outcomes, ()) = tokio::join!(guesses.join_all(), owner);
    let refusals: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect_err("a guess was right")).collect();
    let evaluated = refusals.iter().filter(|status| reason(status) == "CREDENTIALS_INVALID").count();
    measured("guesses", format_args!("{evaluated} of {GUESSES} evaluated"));
    assert!((1..=EVALUATED).contains(&evaluated), "{evaluated} were evaluated");
    let mut limited = 0;
    for refused in refusals.into_iter().filter(|status| reason(status) != "CREDENTIALS_INVALID") {
        // A machine that is busy with other tests may not even come to look at some of them.
        if !["DEADLINE_EXCEEDED", "STORE_UNAVAILABLE", "OVERLOADED"].contains(&&reason(&refused)[..]) {
            limited += 1;
            assert!(wait(&refused).is_some(), "{refused:?}");
            assert_refused!(Err::<(), _>(refused), ResourceExhausted, "RATE_LIMITED");
        }
    }
    assert!(limited >= EVALUATED, "{limited} were told to wait");

    // The right password is not looked at before its time, and then it is good. Where guesses were cut off, some of
    // them are waited for in vain.
    let (begun, mut waits) = (Instant::now(), vec![]);
    let again = loop {
        match log_in(&home, "ann@example.com").await {
            Ok(pair) => break pair,
            Err(refused) => {
                let told = wait(&refused).expect("it says when to come again");
                assert_refused!(Err::<(), _>(refused), ResourceExhausted, "RATE_LIMITED");
                waits.push(told);
                assert!(begun.elapsed() <= LONGEST_WAIT + BUSY, "still refused: {waits:?}");
                // It is told from the answer on, not from the question.
                sleep(told).await;
            }
        }
    };
    measured("the owner logged in after", format_args!("{:.1?}, as told: {waits:.1?}", begun.elapsed()));
    assert!(waits.len() <= 1 || evaluated + limited < GUESSES, "told to wait again: {waits:?}");
    for pair in [&ann, &again] {
        knock(&task, &pair.access_token).await.expect("let in");
    }
}
