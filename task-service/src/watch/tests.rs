//! Which owners a replica reads after writes at another replica, and what it does when the database loses history.

use std::collections::HashSet;

use futures::FutureExt;
use service_kit::{args, clock::Clock, on_each_database, testing::TestDatabase};

use super::*;
use crate::store::tests::{create_with_id, open};

const ANN: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);

async fn replica(database: &TestDatabase) -> Arc<Watches> {
    let db = open(database).await;
    let epoch = epoch::open(&db, random::id()).await.expect("there is an epoch");
    Arc::new(Watches::new(db, CurrentEpoch::new(epoch)))
}

fn named(owner: Uuid) -> ChangedOwners {
    ChangedOwners::Named(HashSet::from([owner]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_reads_only_watched_owners_that_another_replica_names() {
    const DISCONNECT: &str = "
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%'";
    let Some(database) = TestDatabase::postgres().await else { return };
    let (writer, reader) = (replica(&database).await, replica(&database).await);
    let _watches = (writer.watch(BOB), reader.watch(BOB));
    let test = async {
        let reads = &reader.remote_changes;
        assert_eq!(reads.next().await, ChangedOwners::All, "notifications before the start may be lost");
        assert_eq!(writer.remote_changes.next().await, ChangedOwners::All);
        // Ann writes a hundred times in a second.
        for _ in 0..100 {
            writer.notify(ANN);
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
        writer.notify(BOB);
        // Notifications arrive in order, so those with Ann have arrived before.
        assert_eq!(reads.next().await, named(BOB));
        reader.notify(BOB);
        assert_eq!(writer.remote_changes.next().await, named(BOB), "its own notifications are not among them");

        writer.db.execute(DISCONNECT, args![]).await.expect("the connections end");
        assert_eq!(reads.next().await, ChangedOwners::All, "notifications may be lost");
        assert_eq!(reads.next().now_or_never(), None);
    };
    let test = timeout(Duration::from_secs(30), test);
    tokio::select! {
        result = test => result.expect("the notifications arrive in time"),
        () = async { tokio::join!(writer.listen(), reader.listen(), writer.announce(), reader.announce()); } => {}
    }
    writer.db.close().await;
    reader.db.close().await;
}

on_each_database!(a_decreasing_sequence_number_begins_an_epoch, a_deleted_account_begins_no_epoch);

/// Creates two tasks of Ann, which one replica sees, and then makes the database forget the last one.
async fn lose_history(watches: &Watches) {
    let clock = Clock::system();
    for _ in 0..2 {
        create_with_id(&watches.db, ANN, clock.new_id()).await.expect("a task");
    }
    watches.read_changes(named(ANN)).await.expect("the changes are read");
    watches.db.execute("update owners set last_change = 1", args![]).await.expect("an update");
}

async fn a_decreasing_sequence_number_begins_an_epoch(database: TestDatabase) {
    let (first, second) = (replica(&database).await, replica(&database).await);
    let mut watches = [first.watch(ANN).expect("a watch"), second.watch(ANN).expect("a watch")];
    let old = first.epoch.get();
    lose_history(&first).await;
    for watch in &mut watches {
        watch.changed().now_or_never();
    }

    first.read_changes(ChangedOwners::All).await.expect("the changes are read");
    let new = first.epoch.get();
    assert_ne!(new, old);
    assert!(watches[0].changed().now_or_never().is_some(), "the watchers are woken");
    assert_eq!(epoch::read(&second.db).await.expect("an epoch"), epoch::read(&first.db).await.expect("an epoch"));
    second.begin_epoch().await.expect("the epoch is read");
    assert_eq!(second.epoch.get(), new, "two replicas that notice the same loss begin one epoch");
    assert!(watches[1].changed().now_or_never().is_some(), "the watchers are woken");
    first.db.close().await;
    second.db.close().await;
}

async fn a_deleted_account_begins_no_epoch(database: TestDatabase) {
    const DELETED: &str = "insert into removed_owners (owner_id, heard_at, due_at) values ($1, 1, 1)";
    let replica = replica(&database).await;
    let _watch = replica.watch(ANN).expect("a watch");
    let epoch = replica.epoch.get();
    lose_history(&replica).await;
    replica.db.execute(DELETED, args![ANN]).await.expect("an insert");
    replica.read_changes(ChangedOwners::All).await.expect("the changes are read");
    assert_eq!(replica.epoch.get(), epoch);
    replica.db.close().await;
}
