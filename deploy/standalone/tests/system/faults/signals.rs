//! Each program is killed and paused under load.

use std::time::Duration;

use super::{
    cluster::{Cluster, TWO_EACH},
    load::Load,
};

/// The number of tasks written before and after each fault.
const TASKS: usize = 50;

/// Longer than the heartbeat limit of verifiers.
const PAUSE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_each_program_is_killed() {
    let Some(mut cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    let load = Load::start(&cluster).await;
    for index in 0..4 {
        load.wait_for_tasks(TASKS).await;
        let Cluster { auth, task, .. } = &mut cluster;
        let service = &mut if index < 2 { auth } else { task }[index % 2];
        service.kill();
        // The others go on.
        load.wait_for_tasks(TASKS).await;
        service.start_again();
        service.wait_until_ready().await;
    }
    load.wait_for_tasks(TASKS).await;
    load.finish().await.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_each_program_is_paused() {
    let Some(cluster) = Cluster::on_postgres(TWO_EACH).await else { return };
    let load = Load::start(&cluster).await;
    for service in cluster.auth.iter().chain(&cluster.task) {
        load.wait_for_tasks(TASKS).await;
        service.pause();
        tokio::time::sleep(PAUSE).await;
        service.resume();
        load.wait_for_tasks(TASKS).await;
        service.wait_until_ready().await;
    }
    load.finish().await.verify(&cluster).await;
}
