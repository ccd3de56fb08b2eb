//! Calls that are cancelled, many a second, and what others notice of it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use taskey_proto::{
    auth::v1::{
        IntrospectRequest, LoginRequest, TokenPair, auth_service_client::AuthServiceClient,
        token_service_client::TokenServiceClient,
    },
    task::v1::{CreateTaskRequest, GetTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

use super::{
    cluster::{Cluster, ONE},
    people::{BREATH, create, log_out, me, person, until_refused},
    report::{measured, percentile, rounds},
};
use crate::process::{PASSWORD, bearer};

/// How many calls a second are cancelled. A thousand of them, made and served by debug builds, would take more than two cores.
const RATE: usize = if cfg!(debug_assertions) { 200 } else { 1000 };

/// A p99 below this is good whatever the quiet one is: the calls themselves keep two cores busy.
const GOOD: Duration = Duration::from_millis(20);

/// A logout is effective everywhere within this.
const EFFECTIVE: Duration = Duration::from_secs(1);

/// How often each of two calls is made in quiet.
const CALLS: usize = 300;

/// Somebody who has no more than a garbage token.
const GARBAGE: &str = "taskey_service_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Makes a call of the `number`th kind, and gives it up after a while.
async fn call(number: usize, auth: Channel, task: Channel, access_token: String, give_up: Duration) {
    let call = async {
        match number % 5 {
            0 => {
                let made = Some(Task { title: "abandoned".to_owned(), ..Task::default() });
                let request = CreateTaskRequest { task: made, ..CreateTaskRequest::default() };
                _ = TaskServiceClient::new(task).create_task(bearer(&access_token, request)).await;
            }
            1 => {
                let request = ListTasksRequest { page_size: 100, ..ListTasksRequest::default() };
                _ = TaskServiceClient::new(task).list_tasks(bearer(&access_token, request)).await;
            }
            2 => {
                let request = GetTaskRequest { id: "01890000-0000-7000-8000-000000000000".to_owned() };
                _ = TaskServiceClient::new(task).get_task(bearer(&access_token, request)).await;
            }
            3 => {
                let request =
                    bearer(GARBAGE, IntrospectRequest { token: access_token, ..IntrospectRequest::default() });
                _ = TokenServiceClient::new(auth).introspect(request).await;
            }
            _ => {
                let (email, password) = ("nobody@example.com".to_owned(), PASSWORD.to_owned());
                let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
                request.metadata_mut().insert("x-taskey-service-token", GARBAGE.parse().expect("ASCII"));
                _ = AuthServiceClient::new(auth).login(request).await;
            }
        }
    };
    _ = timeout(give_up, call).await;
}

/// Makes calls at a steady rate and gives each up, until it is over. Returns how many.
async fn attack(cluster: &Cluster, access_token: &str, give_up: Duration, over: &CancellationToken) -> usize {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let (mut ticks, mut calls, made) = (interval(Duration::from_millis(5)), JoinSet::new(), AtomicUsize::new(0));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        for _ in 0..RATE / 200 {
            let number = made.fetch_add(1, Ordering::Relaxed);
            calls.spawn(call(number, auth.clone(), task.clone(), access_token.to_owned(), give_up));
        }
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    made.into_inner()
}

/// Reads a task and the caller's account until it is over, and `CALLS` times at least. Returns how long each took.
async fn read(cluster: &Cluster, pair: &TokenPair, task: &Task, over: &CancellationToken) -> Vec<Duration> {
    let (auth_channel, task_channel) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mut took = Vec::new();
    while took.len() < 2 * CALLS || !over.is_cancelled() {
        let begun = Instant::now();
        let request = bearer(&pair.access_token, GetTaskRequest { id: task.id.clone() });
        TaskServiceClient::new(task_channel.clone()).get_task(request).await.expect("others get their tasks");
        took.push(begun.elapsed());
        let begun = Instant::now();
        me(&auth_channel, &pair.access_token).await.expect("others get their accounts");
        took.push(begun.elapsed());
        sleep(BREATH).await;
    }
    took
}

async fn others_do_not_notice_cancelled_calls(cluster: Cluster, is_counted: bool) {
    // 5 s of each kind for a start. With all rounds 30 s, but 10 s in a debug build, so that the gate stays short.
    let most = if cfg!(debug_assertions) { 2 } else { 6 };
    let lasts = Duration::from_secs(5 * rounds(1).clamp(1, most) as u64);
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = person(&auth, "ann@example.com").await;
    let mallory = person(&auth, "mallory@example.com").await;
    let anns_task = create(&task, &ann.access_token, "of Ann").await.expect("created");
    let finished = CancellationToken::new();
    finished.cancel();
    _ = read(&cluster, &ann, &anns_task, &finished).await;
    let quiet = percentile(99, read(&cluster, &ann, &anns_task, &finished).await);
    let before = if is_counted { cluster.database.session_count().await } else { 0 };
    for give_up in [0, 1, 50] {
        let bob = person(&auth, &format!("bob.{give_up}@example.com")).await;
        let over = CancellationToken::new();
        let logout = async {
            sleep(lasts / 2).await;
            log_out(&auth, &bob).await.expect("logged out");
            until_refused(&task, &bob.access_token, "TOKEN_REVOKED", EFFECTIVE).await;
            sleep(lasts / 2).await;
            over.cancel();
        };
        let give_up = Duration::from_millis(give_up);
        let (calls, beside, ()) = tokio::join!(
            attack(&cluster, &mallory.access_token, give_up, &over),
            read(&cluster, &ann, &anns_task, &over),
            logout
        );
        let beside = percentile(99, beside);
        measured(
            &format!("{calls} calls given up after {give_up:?}"),
            format_args!("p99 of others {beside:.1?}, in quiet {quiet:.1?}"),
        );
        assert!(beside <= (quiet * 3).max(GOOD), "{quiet:?} became {beside:?}");
    }
    if is_counted {
        let sessions = cluster.database.session_count().await - before;
        assert!(sessions < 60, "{sessions} sessions of PostgreSQL were made anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_others_do_not_notice_cancelled_calls_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(ONE).await else { return };
    others_do_not_notice_cancelled_calls(cluster, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_others_do_not_notice_cancelled_calls_on_sqlite() {
    others_do_not_notice_cancelled_calls(Cluster::on_files(ONE).await, false).await;
}
