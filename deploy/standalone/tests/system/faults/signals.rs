//! Each program killed and stopped in mid-load.

use std::time::Duration;

use super::{
    cluster::{Cluster, TWO},
    load::Load,
};

/// How many tasks are written before and after each fault.
const SOME: usize = 50;

/// Longer than a verifier waits for a heartbeat.
const STOPPED: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_one_program_after_the_other_is_killed() {
    let Some(mut cluster) = Cluster::on_postgres(TWO).await else { return };
    let load = Load::start(&cluster).await;
    for which in 0..4 {
        load.progress(SOME).await;
        let Cluster { auth, task, .. } = &mut cluster;
        let service = &mut if which < 2 { auth } else { task }[which % 2];
        service.kill();
        // The others go on.
        load.progress(SOME).await;
        service.start_again();
        service.ready().await;
    }
    load.progress(SOME).await;
    load.finish().await.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_one_program_after_the_other_is_stopped_for_a_while() {
    let Some(cluster) = Cluster::on_postgres(TWO).await else { return };
    let load = Load::start(&cluster).await;
    for service in cluster.auth.iter().chain(&cluster.task) {
        load.progress(SOME).await;
        service.stop();
        tokio::time::sleep(STOPPED).await;
        service.go_on();
        load.progress(SOME).await;
        service.ready().await;
    }
    load.finish().await.verify(&cluster).await;
}
