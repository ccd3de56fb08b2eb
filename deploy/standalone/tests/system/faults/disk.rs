//! SQLite with a full or failing disk.

use super::{
    cluster::{Cluster, ClusterConfig, ONE_EACH},
    ledger::Ledger,
    load::Load,
    users::{check_token, create, list, log_in, log_out, reason, refresh, sign_up, sign_up_and_log_in},
};
use crate::shim::{DiskError, Shim};

/// The number of tasks written before and after each fault.
const TASKS: usize = 200;

async fn cluster(shim: &Shim) -> Cluster {
    let environment = &shim.environment();
    Cluster::on_sqlite(ClusterConfig { auth_environment: environment, task_environment: environment, ..ONE_EACH }).await
}

/// Makes the disk fail under load, and finally kills the programs, so that only what is on disk remains.
async fn assert_nothing_acknowledged_is_lost(fault: impl Fn(&Shim, bool)) {
    let shim = Shim::new();
    let mut cluster = cluster(&shim).await;
    let load = Load::start(&cluster).await;
    for _ in 0..2 {
        load.wait_for_tasks(TASKS).await;
        fault(&shim, true);
        load.wait_for_errors(10).await;
        fault(&shim, false);
        load.wait_for_tasks(TASKS).await;
    }
    fault(&shim, true);
    load.wait_for_errors(10).await;
    cluster.auth[0].kill();
    cluster.task[0].kill();
    fault(&shim, false);
    cluster.auth[0].start_again();
    cluster.task[0].start_again();
    cluster.wait_until_ready().await;
    let ledger: &Ledger = &*load.finish().await;
    ledger.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    assert_nothing_acknowledged_is_lost(|shim, fails| shim.fail_writes(fails.then_some(DiskError::Full))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_writes_fail() {
    assert_nothing_acknowledged_is_lost(|shim, fails| shim.fail_writes(fails.then_some(DiskError::Input))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_syncs_fail() {
    assert_nothing_acknowledged_is_lost(|shim, fails| shim.fail_syncs(fails.then_some(DiskError::Input))).await;
}

/// Reads go on, writes fail with `STORE_UNAVAILABLE`, and a logout that cannot be stored is not acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_fails_writes_only() {
    let shim = Shim::new();
    let cluster = cluster(&shim).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = sign_up_and_log_in(&auth, "ann@example.com").await;
    let created = create(&task, &ann.access_token, "before").await.expect("written");
    shim.fail_writes(Some(DiskError::Full));
    let refused = [
        create(&task, &ann.access_token, "meanwhile").await.map(|_| ()),
        sign_up(&auth, "bob@example.com").await.map(|_| ()),
        log_in(&auth, "ann@example.com").await.map(|_| ()),
        refresh(&auth, &ann.refresh_token).await.map(|_| ()),
        log_out(&auth, &ann).await,
    ];
    for outcome in refused {
        assert_eq!(reason(&outcome.expect_err("the disk is full")), "STORE_UNAVAILABLE");
    }
    assert_eq!(list(&task, &ann.access_token).await.expect("listed"), std::slice::from_ref(&created));
    shim.fail_writes(None);
    let after = create(&task, &ann.access_token, "after").await.expect("the disk has space again");
    let tasks = list(&task, &ann.access_token).await.expect("listed");
    assert_eq!(tasks, [after, created]);
    sign_up_and_log_in(&auth, "bob@example.com").await;
    let ann = refresh(&auth, &ann.refresh_token).await.expect("the session is active");
    check_token(&task, &ann.access_token).await.expect("accepted");
}
