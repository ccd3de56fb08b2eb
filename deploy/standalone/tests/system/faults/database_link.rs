//! The link to the database is cut, frozen and slow.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{
    cluster::{Cluster, ONE_EACH},
    proxy::Mode,
    report::{LOAD_ALLOWANCE, report_value},
    users::{
        RETRY_PAUSE, check_token, create, list, log_in, log_out, reason, refresh, sign_up_and_log_in,
        wait_until_refused,
    },
};

/// How long a call to each service may take, according to its limits.
const TASK_LIMIT: Duration = Duration::from_secs(3);
const AUTH_LIMIT: Duration = Duration::from_secs(5);

/// A service has recovered within this time after its database is back.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// More calls than there are connections to the database, so that some wait for a connection.
const CALLS: usize = 20;

/// The reasons of errors without a database.
const REFUSALS: [&str; 2] = ["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"];

/// Checks for a while that tokens are accepted: verification needs no database.
async fn check_token_for_a_while(task: &tonic::transport::Channel, token: &str) {
    for _ in 0..50 {
        let begun = Instant::now();
        check_token(task, token).await.expect("accepted");
        assert!(begun.elapsed() < LOAD_ALLOWANCE, "a token was verified in {:?}", begun.elapsed());
        sleep(RETRY_PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_service_responds_in_time_without_its_database_and_recovers() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    let task = cluster.task[0].channel();
    let ann = sign_up_and_log_in(&cluster.auth[0].channel(), "ann@example.com").await;
    let (mut acknowledged, mut requested) = (HashSet::new(), HashSet::new());
    for (fault, mode) in
        [Mode::Cut, Mode::Frozen, Mode::StalledResponses, Mode::StalledRequests].into_iter().enumerate()
    {
        acknowledged.insert(create(&task, &ann.access_token, &format!("before {fault}")).await.expect("written").id);
        cluster.task_link().set(mode);
        let calls = (0..CALLS).map(async |call| {
            let begun = Instant::now();
            (create(&task, &ann.access_token, &format!("{fault}/{call}")).await, begun.elapsed())
        });
        let (calls, ()) = tokio::join!(join_all(calls), check_token_for_a_while(&task, &ann.access_token));
        for (outcome, took) in &calls {
            let reason = reason(outcome.as_ref().expect_err("the database is not reachable"));
            assert!(REFUSALS.contains(&&reason[..]), "{mode:?}: {outcome:?}");
            assert!(*took <= TASK_LIMIT + LOAD_ALLOWANCE, "{mode:?}: responded after {took:?}");
        }
        report_value(
            &format!("{mode:?}: slowest response"),
            format_args!("{:.1?}", calls.iter().map(|call| call.1).max().unwrap_or_default()),
        );
        requested.extend((0..CALLS).map(|call| format!("{fault}/{call}")));
        cluster.task_link().set(Mode::Forward);
        let restored = Instant::now();
        let after = async {
            for number in 0.. {
                let title = format!("after {fault} {number}");
                match create(&task, &ann.access_token, &title).await {
                    Ok(made) => return made.id,
                    Err(_) => requested.insert(title),
                };
            }
            unreachable!("the calls are repeated")
        };
        acknowledged.insert(timeout(RECOVERY_LIMIT + LOAD_ALLOWANCE, after).await.expect("the service recovers"));
        report_value(&format!("{mode:?}: recovered after"), format_args!("{:.1?}", restored.elapsed()));
    }
    cluster.task_link().set(Mode::Delay(Duration::from_millis(100)));
    acknowledged.insert(create(&task, &ann.access_token, "slow").await.expect("written despite the delay").id);
    cluster.task_link().set(Mode::Forward);
    let mut titles = HashSet::new();
    for task in list(&task, &ann.access_token).await.expect("listed") {
        assert!(acknowledged.remove(&task.id) || requested.contains(&task.title), "not requested: {task:?}");
        assert!(titles.insert(task.title.clone()), "duplicated: {task:?}");
        assert_eq!(task.notes, task.title.repeat(10), "partially written task");
    }
    assert!(acknowledged.is_empty(), "{} tasks are missing", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_service_responds_in_time_without_its_database_and_logs_nobody_out() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    for mode in [Mode::Cut, Mode::Frozen, Mode::StalledResponses] {
        cluster.auth_link().set(mode);
        let begun = Instant::now();
        let (login, refreshed, logout, ()) = tokio::join!(
            log_in(&auth, "ann@example.com"),
            refresh(&auth, &ann.refresh_token),
            log_out(&auth, &ann),
            check_token_for_a_while(&task, &ann.access_token),
        );
        for outcome in [login.map(|_| ()), refreshed.map(|_| ()), logout] {
            let reason = reason(&outcome.expect_err("the database is not reachable"));
            assert!(REFUSALS.contains(&&reason[..]), "{mode:?}: {reason}");
        }
        let took = begun.elapsed();
        assert!(took <= AUTH_LIMIT + LOAD_ALLOWANCE, "{mode:?}: responded after {took:?}");
        report_value(&format!("{mode:?}: slowest response"), format_args!("{took:.1?}"));
        cluster.auth_link().set(Mode::Forward);
        let restored = Instant::now();
        let back = async {
            loop {
                match log_in(&auth, "ann@example.com").await {
                    Ok(pair) => return pair,
                    Err(status) => assert!(REFUSALS.contains(&&reason(&status)[..]), "{status:?}"),
                }
            }
        };
        let new_session = timeout(RECOVERY_LIMIT + LOAD_ALLOWANCE, back).await.expect("the service recovers");
        report_value(&format!("{mode:?}: recovered after"), format_args!("{:.1?}", restored.elapsed()));
        // The logout that was not acknowledged may still have taken effect. Nothing else may end the session.
        match refresh(&auth, &ann.refresh_token).await {
            Ok(pair) => check_token(&task, &pair.access_token).await.expect("accepted"),
            Err(status) => assert_eq!(reason(&status), "REFRESH_TOKEN_INVALID", "{mode:?}"),
        }
        cluster.task[0].wait_until_ready().await;
        log_out(&auth, &ann).await.expect("logged out");
        wait_until_refused(&task, &ann.access_token, "TOKEN_REVOKED", RECOVERY_LIMIT + LOAD_ALLOWANCE).await;
        check_token(&task, &new_session.access_token).await.expect("accepted");
        ann = new_session;
    }
}
