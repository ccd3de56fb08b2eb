//! PostgreSQL is restarted, frozen and failed over under load.

use std::time::Duration;

use super::{
    cluster::{Cluster, TWO_EACH},
    load::Load,
    postgres::Postgres,
    report::{LOAD_ALLOWANCE, report_value},
};

/// The number of tasks written before and after each fault.
const TASKS: usize = 100;

/// The longest limit of any call: that of logins.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Checks that all services recover, nothing is lost and no call hung.
async fn assert_nothing_is_lost(load: Load, cluster: &Cluster) {
    report_value("recovered after", format_args!("{:.1?}", load.wait_for_tasks(1).await));
    load.wait_for_tasks(TASKS).await;
    cluster.wait_until_ready().await;
    let ledger = load.finish().await;
    ledger.verify(cluster).await;
    assert!(ledger.slowest() <= CALL_LIMIT + LOAD_ALLOWANCE, "a call took {:?}", ledger.slowest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_crashes_and_restarts() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_own_server(TWO_EACH, server.upstream()).await;
    let load = Load::start(&cluster).await;
    for _ in 0..2 {
        load.wait_for_tasks(TASKS).await;
        server.restart().await;
    }
    assert_nothing_is_lost(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_hangs_when_the_server_freezes() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_own_server(TWO_EACH, server.upstream()).await;
    let load = Load::start(&cluster).await;
    load.wait_for_tasks(TASKS).await;
    server.freeze();
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.thaw();
    assert_nothing_is_lost(load, &cluster).await;
}

/// The replica must be synchronous. Otherwise PostgreSQL acknowledges writes that a failover loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_synchronous_replica_takes_over() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_own_server(TWO_EACH, server.upstream()).await;
    server.replicate().await;
    let load = Load::start(&cluster).await;
    load.wait_for_tasks(TASKS).await;
    server.fail_over().await;
    for link in [cluster.auth_link(), cluster.task_link()] {
        link.redirect_to(server.replica());
    }
    assert_nothing_is_lost(load, &cluster).await;
}
