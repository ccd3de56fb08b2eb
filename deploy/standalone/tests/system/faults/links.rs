//! The way to the database cut, frozen and slow.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{
    cluster::{Cluster, ONE},
    people::{BREATH, create, knock, list, log_in, log_out, person, reason, refresh, until_refused},
    proxy::Mode,
    report::{BUSY, measured},
};

/// How long a call of each service may take, by its limits.
const TASK_LIMIT: Duration = Duration::from_secs(3);
const AUTH_LIMIT: Duration = Duration::from_secs(5);

/// A service is of use again within this after its database's return.
const RECOVERED: Duration = Duration::from_secs(5);

/// More calls than there are connections to the database, so that some wait for one.
const CALLS: usize = 20;

/// What a call without a database ends with.
const REFUSALS: [&str; 2] = ["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"];

/// Verification needs no database, so it goes on.
async fn knock_for_a_while(task: &tonic::transport::Channel, token: &str) {
    for _ in 0..50 {
        let begun = Instant::now();
        knock(task, token).await.expect("let in");
        assert!(begun.elapsed() < BUSY, "a token was verified in {:?}", begun.elapsed());
        sleep(BREATH).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_service_answers_in_time_without_its_database_and_comes_back() {
    let Some(cluster) = Cluster::on_postgres(ONE).await else { return };
    let task = cluster.task[0].channel();
    let ann = person(&cluster.auth[0].channel(), "ann@example.com").await;
    let (mut acknowledged, mut asked) = (HashSet::new(), HashSet::new());
    for (fault, mode) in [Mode::Cut, Mode::Frozen, Mode::Mute, Mode::Deaf].into_iter().enumerate() {
        acknowledged.insert(create(&task, &ann.access_token, &format!("before {fault}")).await.expect("written").id);
        cluster.task_link().set(mode);
        let calls = (0..CALLS).map(async |call| {
            let begun = Instant::now();
            (create(&task, &ann.access_token, &format!("{fault}/{call}")).await, begun.elapsed())
        });
        let (calls, ()) = tokio::join!(join_all(calls), knock_for_a_while(&task, &ann.access_token));
        for (outcome, took) in &calls {
            let reason = reason(outcome.as_ref().expect_err("there is no database"));
            assert!(REFUSALS.contains(&&reason[..]), "{mode:?}: {outcome:?}");
            assert!(*took <= TASK_LIMIT + BUSY, "{mode:?}: answered after {took:?}");
        }
        measured(
            &format!("{mode:?}: slowest answer"),
            format_args!("{:.1?}", calls.iter().map(|call| call.1).max().unwrap_or_default()),
        );
        asked.extend((0..CALLS).map(|call| format!("{fault}/{call}")));
        cluster.task_link().set(Mode::Forward);
        let returned = Instant::now();
        let after = async {
            for number in 0.. {
                let title = format!("after {fault} {number}");
                match create(&task, &ann.access_token, &title).await {
                    Ok(made) => return made.id,
                    Err(_) => asked.insert(title),
                };
            }
            unreachable!("it is asked again and again")
        };
        acknowledged.insert(timeout(RECOVERED + BUSY, after).await.expect("it comes back"));
        measured(&format!("{mode:?}: of use again after"), format_args!("{:.1?}", returned.elapsed()));
    }
    cluster.task_link().set(Mode::Delay(Duration::from_millis(100)));
    acknowledged.insert(create(&task, &ann.access_token, "slow").await.expect("written, if late").id);
    cluster.task_link().set(Mode::Forward);
    let mut titles = HashSet::new();
    for task in list(&task, &ann.access_token).await.expect("listed") {
        assert!(acknowledged.remove(&task.id) || asked.contains(&task.title), "nobody asked for {task:?}");
        assert!(titles.insert(task.title.clone()), "twice: {task:?}");
        assert_eq!(task.notes, task.title.repeat(10), "half a task");
    }
    assert!(acknowledged.is_empty(), "{} tasks are missing", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_service_answers_in_time_without_its_database_and_nobody_is_logged_out() {
    let Some(cluster) = Cluster::on_postgres(ONE).await else { return };
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut ann = person(&auth, "ann@example.com").await;
    for mode in [Mode::Cut, Mode::Frozen, Mode::Mute] {
        cluster.auth_link().set(mode);
        let begun = Instant::now();
        let (login, refreshed, logout, ()) = tokio::join!(
            log_in(&auth, "ann@example.com"),
            refresh(&auth, &ann.refresh_token),
            log_out(&auth, &ann),
            knock_for_a_while(&task, &ann.access_token),
        );
        for outcome in [login.map(|_| ()), refreshed.map(|_| ()), logout] {
            let reason = reason(&outcome.expect_err("there is no database"));
            assert!(REFUSALS.contains(&&reason[..]), "{mode:?}: {reason}");
        }
        let took = begun.elapsed();
        assert!(took <= AUTH_LIMIT + BUSY, "{mode:?}: answered after {took:?}");
        measured(&format!("{mode:?}: slowest answer"), format_args!("{took:.1?}"));
        cluster.auth_link().set(Mode::Forward);
        let returned = Instant::now();
        let back = async {
            loop {
                match log_in(&auth, "ann@example.com").await {
                    Ok(pair) => return pair,
                    Err(status) => assert!(REFUSALS.contains(&&reason(&status)[..]), "{status:?}"),
                }
            }
        };
        let again = timeout(RECOVERED + BUSY, back).await.expect("it comes back");
        measured(&format!("{mode:?}: of use again after"), format_args!("{:.1?}", returned.elapsed()));
        // The logout that nobody has acknowledged may have taken effect, and then that is why; nothing else ends her
        // session.
        match refresh(&auth, &ann.refresh_token).await {
            Ok(pair) => knock(&task, &pair.access_token).await.expect("let in"),
            Err(status) => assert_eq!(reason(&status), "REFRESH_TOKEN_INVALID", "{mode:?}"),
        }
        cluster.task[0].ready().await;
        log_out(&auth, &ann).await.expect("logged out");
        until_refused(&task, &ann.access_token, "TOKEN_REVOKED", RECOVERED + BUSY).await;
        knock(&task, &again.access_token).await.expect("let in");
        ann = again;
    }
}
