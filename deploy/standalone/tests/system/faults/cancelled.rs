//! Many cancelled calls per second, and their effect on other calls.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use taskey_proto::{
    auth::v1::{
        IntrospectRequest, LoginRequest, auth_service_client::AuthServiceClient,
        token_service_client::TokenServiceClient,
    },
    task::v1::{CreateTaskRequest, GetTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

use super::{
    cluster::{Cluster, ONE_EACH},
    others::Others,
    report::report_value,
    users::sign_up_and_log_in,
};
use crate::process::{PASSWORD, bearer};

/// Cancelled calls per second. In debug builds, 1000 per second would need more than two cores.
const RATE: usize = if cfg!(debug_assertions) { 200 } else { 1000 };

/// A malformed service token.
const MALFORMED_TOKEN: &str = "taskey_service_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Makes a call of the `number`th kind, and cancels it after `cancel_after`.
async fn call(number: usize, auth: Channel, task: Channel, access_token: String, cancel_after: Duration) {
    let call = async {
        match number % 5 {
            0 => {
                let new_task = Some(Task { title: "abandoned".to_owned(), ..Task::default() });
                let request = CreateTaskRequest { task: new_task, ..CreateTaskRequest::default() };
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
                    bearer(MALFORMED_TOKEN, IntrospectRequest { token: access_token, ..IntrospectRequest::default() });
                _ = TokenServiceClient::new(auth).introspect(request).await;
            }
            _ => {
                let (email, password) = ("nobody@example.com".to_owned(), PASSWORD.to_owned());
                let mut request = Request::new(LoginRequest { email, password, ..LoginRequest::default() });
                request.metadata_mut().insert("x-taskey-service-token", MALFORMED_TOKEN.parse().expect("ASCII"));
                _ = AuthServiceClient::new(auth).login(request).await;
            }
        }
    };
    _ = timeout(cancel_after, call).await;
}

/// Makes and cancels calls at a steady rate per second until `stopped`. Returns their number.
pub async fn make_cancelled_calls(
    [auth, task]: [Channel; 2],
    access_token: &str,
    rate: usize,
    cancel_after: Duration,
    stopped: &CancellationToken,
) -> usize {
    let (mut ticks, mut calls, made) = (interval(Duration::from_millis(20)), JoinSet::new(), AtomicUsize::new(0));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
        for _ in 0..rate / 50 {
            let number = made.fetch_add(1, Ordering::Relaxed);
            calls.spawn(call(number, auth.clone(), task.clone(), access_token.to_owned(), cancel_after));
        }
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    made.into_inner()
}

async fn assert_cancelled_calls_do_not_slow_down_others(cluster: Cluster, counts_sessions: bool) {
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let mallory = sign_up_and_log_in(&auth, "mallory@example.com").await;
    let others = Others::sign_up(auth, task, None).await;
    let before = if counts_sessions { cluster.database.session_count().await } else { 0 };
    for cancel_after in [0, 1, 50].map(Duration::from_millis) {
        let attack = async |stopped: &CancellationToken| {
            let channels = [cluster.auth[0].channel(), cluster.task[0].channel()];
            let calls = make_cancelled_calls(channels, &mallory.access_token, RATE, cancel_after, stopped).await;
            report_value(&format!("calls cancelled after {cancel_after:?}"), calls);
        };
        others.assert_unaffected(&format!("calls cancelled after {cancel_after:?}"), attack).await;
    }
    if counts_sessions {
        let sessions = cluster.database.session_count().await - before;
        assert!(sessions < 60, "{sessions} new PostgreSQL sessions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_cancelled_calls_do_not_slow_down_others_on_postgresql() {
    let Some(cluster) = Cluster::on_postgres(ONE_EACH).await else { return };
    assert_cancelled_calls_do_not_slow_down_others(cluster, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_cancelled_calls_do_not_slow_down_others_on_sqlite() {
    assert_cancelled_calls_do_not_slow_down_others(Cluster::on_sqlite(ONE_EACH).await, false).await;
}
