//! PostgreSQL restarted, frozen and failed over in mid-load.

use std::time::Duration;

use super::{
    cluster::{Cluster, TWO},
    load::Load,
    postgres::Postgres,
    report::{BUSY, measured},
};

/// How many tasks are written before and after each fault.
const SOME: usize = 100;

/// The longest limit of any call, a login.
const ANSWERED: Duration = Duration::from_secs(5);

/// Everything is of use again, nothing is lost, and no call has hung.
async fn nothing_is_lost(load: Load, cluster: &Cluster) {
    measured("written to again after", format_args!("{:.1?}", load.progress(1).await));
    load.progress(SOME).await;
    cluster.ready().await;
    let ledger = load.finish().await;
    ledger.verify(cluster).await;
    assert!(ledger.slowest() <= ANSWERED + BUSY, "a call took {:?}", ledger.slowest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_crashes_and_restarts() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_server(TWO, server.upstream()).await;
    let load = Load::start(&cluster).await;
    for _ in 0..2 {
        load.progress(SOME).await;
        server.restart().await;
    }
    nothing_is_lost(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_hangs_when_the_server_freezes() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_server(TWO, server.upstream()).await;
    let load = Load::start(&cluster).await;
    load.progress(SOME).await;
    server.freeze();
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.thaw();
    nothing_is_lost(load, &cluster).await;
}

/// The replica is synchronous: without that, PostgreSQL acknowledges what a failover loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_synchronous_replica_takes_over() {
    let Some(server) = Postgres::start().await else { return };
    let cluster = Cluster::on_server(TWO, server.upstream()).await;
    server.replicate().await;
    let load = Load::start(&cluster).await;
    load.progress(SOME).await;
    server.fail_over().await;
    for link in [cluster.auth_link(), cluster.task_link()] {
        link.lead_to(server.replica());
    }
    nothing_is_lost(load, &cluster).await;
}
