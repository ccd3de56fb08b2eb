//! The primary of a Patroni cluster is killed and frozen under load. The services connect through HAProxy.

use std::time::Duration;

use service_kit::assert_refused;
use taskey_proto::task::v1::{ListTaskChangesRequest, WatchTasksRequest, task_service_client::TaskServiceClient};
use tokio::time::{Instant, timeout};
use tonic::{Status, transport::Channel};

use super::patroni::Patroni;
use crate::{
    faults::{
        cluster::{Cluster, ClusterConfig, TWO_EACH},
        load::Load,
        lost_history::assert_stay_refused,
        proxy::Upstream,
        report::{LOAD_ALLOWANCE, report_value},
        users::{CALL_TIMEOUT, RETRY_PAUSE, create, log_in, log_out, sign_up_and_log_in, wait_until_refused},
    },
    process::bearer,
};

/// The number of tasks written before and after each fault.
const TASKS: usize = 100;

/// Writes resume within this time after the primary has failed.
const FAILOVER_LIMIT: Duration = Duration::from_secs(20);

/// The number of changes of a user that a failover loses.
const LOST: usize = 20;

/// A logout takes effect within this time.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

/// Starts two replicas of each service, which connect to the database through HAProxy.
async fn start_services(database: &Patroni) -> Cluster {
    let environment = Patroni::environment();
    let config = ClusterConfig { auth_environment: &environment, task_environment: &environment, ..TWO_EACH };
    Cluster::on_own_server(config, Upstream::Tcp(database.address())).await
}

/// Waits until further tasks are written, and checks that this took no longer than a failover may.
async fn assert_writes_resume(load: &Load, begun: Instant, what: &str) {
    load.wait_for_tasks(1).await;
    report_value(what, format_args!("writes resumed after {:.1?}", begun.elapsed()));
    assert!(begun.elapsed() <= FAILOVER_LIMIT + LOAD_ALLOWANCE, "{:?}", begun.elapsed());
    load.wait_for_tasks(TASKS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_nothing_acknowledged_is_lost_when_the_primary_is_killed() {
    let mut database = Patroni::start(true).await;
    let cluster = start_services(&database).await;
    let load = Load::start(&cluster).await;
    load.wait_for_tasks(TASKS).await;
    let (primary, begun) = (database.primary().await, Instant::now());
    database.kill(primary);
    load.wait_for_errors(1).await;
    assert_writes_resume(&load, begun, "killed").await;
    cluster.wait_until_ready().await;
    load.finish().await.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_nothing_acknowledged_is_lost_when_the_primary_freezes() {
    let database = Patroni::start(true).await;
    let cluster = start_services(&database).await;
    let load = Load::start(&cluster).await;
    load.wait_for_tasks(TASKS).await;
    let (primary, begun) = (database.primary().await, Instant::now());
    database.freeze(primary);
    load.wait_for_errors(1).await;
    assert_writes_resume(&load, begun, "frozen").await;
    // The former primary has not noticed yet that it is none, and must not serve.
    database.thaw(primary);
    load.wait_for_tasks(TASKS).await;
    cluster.wait_until_ready().await;
    load.finish().await.verify(&cluster).await;
}

async fn changes_since(task: &Channel, access_token: &str, sync_token: &str) -> Result<String, Status> {
    let request = ListTaskChangesRequest { sync_token: sync_token.to_owned(), ..ListTaskChangesRequest::default() };
    let response = TaskServiceClient::new(task.clone()).list_task_changes(bearer(access_token, request)).await?;
    Ok(response.into_inner().next_sync_token)
}

/// Repeats a call until it succeeds.
async fn until_ok<T>(call: impl AsyncFn() -> Result<T, Status>) -> T {
    let succeeded = async {
        loop {
            match call().await {
                Ok(response) => return response,
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    };
    timeout(FAILOVER_LIMIT + CALL_TIMEOUT, succeeded).await.expect("the call succeeds after the failover")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_revoked_tokens_stay_refused_and_sync_tokens_expire_when_a_failover_loses_history() {
    let mut database = Patroni::start(false).await;
    let cluster = start_services(&database).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    create(&task, &ann.access_token, "Kept").await.expect("created");
    let ended = [log_in(&auth, "ann@example.com").await, log_in(&auth, "ann@example.com").await];
    let ended = ended.map(|pair| pair.expect("logged in"));

    // The primary acknowledges what no replica receives.
    database.stop_replication().await;
    for _ in 0..LOST {
        create(&task, &ann.access_token, "Lost").await.expect("created");
    }
    let sync_token = changes_since(&task, &ann.access_token, "").await.expect("listed");
    let request = WatchTasksRequest { sync_token: sync_token.clone() };
    let watch = TaskServiceClient::new(task.clone()).watch_tasks(bearer(&ann.access_token, request)).await;
    let mut watch = watch.expect("a watch").into_inner();
    watch.message().await.expect("no error").expect("a message");
    for pair in &ended {
        log_out(&auth, pair).await.expect("logged out");
        for task in cluster.task_channels() {
            wait_until_refused(&task, &pair.access_token, "TOKEN_REVOKED", REVOCATION_LIMIT + LOAD_ALLOWANCE).await;
        }
    }
    let (primary, begun) = (database.primary().await, Instant::now());
    database.kill(primary);
    database.wait_for_other_primary(primary, FAILOVER_LIMIT + LOAD_ALLOWANCE).await;
    let ended_with = timeout(FAILOVER_LIMIT, async {
        loop {
            if let Err(status) = watch.message().await {
                return status;
            }
        }
    });
    let ended_with = ended_with.await.expect("the watch ends");
    assert_refused!(Err::<(), _>(ended_with), OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    until_ok(|| create(&task, &ann.access_token, "After")).await;
    report_value("killed, asynchronous", format_args!("writes resumed after {:.1?}", begun.elapsed()));

    assert_stay_refused(&cluster, &ended).await;
    cluster.auth[0].wait_for_log("the database has lost revocations", CALL_TIMEOUT).await;
    let expired = changes_since(&task, &ann.access_token, &sync_token).await;
    assert_refused!(expired, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    let sync_token = changes_since(&task, &ann.access_token, "").await.expect("a new token");
    changes_since(&task, &ann.access_token, &sync_token).await.expect("the new token is valid");
}
