//! SQLite when the disk is full, and when it fails.

use super::{
    cluster::{Cluster, ONE, Plan},
    ledger::Ledger,
    load::Load,
    people::{create, knock, list, log_in, log_out, person, reason, refresh, sign_up},
};
use crate::shim::{DiskError, Shim};

/// How many tasks are written before and after each fault, and how often one is refused meanwhile.
const SOME: usize = 200;

async fn cluster(shim: &Shim) -> Cluster {
    let environment = &shim.environment();
    Cluster::on_files(Plan { auth_environment: environment, task_environment: environment, ..ONE }).await
}

/// A fault of the disk comes and goes in mid-load, and everything is killed afterwards: the memory of the programs is
/// then no help.
async fn nothing_acknowledged_is_lost(fault: impl Fn(&Shim, bool)) {
    let shim = Shim::new();
    let mut cluster = cluster(&shim).await;
    let load = Load::start(&cluster).await;
    for _ in 0..2 {
        load.progress(SOME).await;
        fault(&shim, true);
        load.refusals(10).await;
        fault(&shim, false);
        load.progress(SOME).await;
    }
    fault(&shim, true);
    load.refusals(10).await;
    cluster.auth[0].kill();
    cluster.task[0].kill();
    fault(&shim, false);
    cluster.auth[0].start_again();
    cluster.task[0].start_again();
    cluster.ready().await;
    let ledger: &Ledger = &*load.finish().await;
    ledger.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    nothing_acknowledged_is_lost(|shim, fails| shim.fail_writes(fails.then_some(DiskError::Full))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_disk_takes_no_writes() {
    nothing_acknowledged_is_lost(|shim, fails| shim.fail_writes(fails.then_some(DiskError::Input))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_disk_keeps_nothing() {
    nothing_acknowledged_is_lost(|shim, fails| shim.fail_syncs(fails.then_some(DiskError::Input))).await;
}

/// What changes nothing goes on, what changes something is refused by the reason that clients know, and a logout that
/// could not be written down is not acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let shim = Shim::new();
    let cluster = cluster(&shim).await;
    let (auth, task) = (cluster.auth[0].channel(), cluster.task[0].channel());
    let ann = person(&auth, "ann@example.com").await;
    let made = create(&task, &ann.access_token, "before").await.expect("written");
    shim.fail_writes(Some(DiskError::Full));
    let refused = [
        create(&task, &ann.access_token, "meanwhile").await.map(|_| ()),
        sign_up(&auth, "bob@example.com").await.map(|_| ()),
        log_in(&auth, "ann@example.com").await.map(|_| ()),
        refresh(&auth, &ann.refresh_token).await.map(|_| ()),
        log_out(&auth, &ann).await,
    ];
    for outcome in refused {
        assert_eq!(reason(&outcome.expect_err("there is no room")), "STORE_UNAVAILABLE");
    }
    assert_eq!(list(&task, &ann.access_token).await.expect("listed"), std::slice::from_ref(&made));
    shim.fail_writes(None);
    let after = create(&task, &ann.access_token, "after").await.expect("there is room again");
    let tasks = list(&task, &ann.access_token).await.expect("listed");
    assert_eq!(tasks, [after, made]);
    person(&auth, "bob@example.com").await;
    let ann = refresh(&auth, &ann.refresh_token).await.expect("the session lives");
    knock(&task, &ann.access_token).await.expect("let in");
}
