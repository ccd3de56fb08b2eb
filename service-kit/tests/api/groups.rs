//! Calls that are executed in groups: which calls a group has, and that none of them suffers from another.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use service_kit::{
    args,
    db::{Conn, Db, Error, GroupKind, GroupOutcomes, Groups},
    on_each_database,
    testing::TestDatabase,
};
use tokio::{sync::Semaphore, time::sleep};

use crate::abandoned_calls::{ids, insert, open, pool};

on_each_database! {
    calls_that_wait_are_executed_together,
    large_groups_are_split,
    a_failing_call_fails_alone,
    a_call_that_its_group_leaves_out_is_executed_alone,
    a_call_that_waits_alone_is_executed_alone,
    calls_abandoned_while_they_wait_are_not_executed,
    a_call_whose_group_does_not_begin_in_time_is_not_executed,
    a_slow_call_does_not_hold_up_others,
    calls_beyond_a_group_that_waits_for_a_connection_are_executed,
}

const LIMIT: Duration = Duration::from_secs(10);

/// A call with this id, or with a higher one, is not executed in a group.
const LEFT_OUT: i64 = 500;

/// What a group adds to the id of a call.
const GROUPED: i64 = 1000;

type Call = BoxFuture<'static, Result<(), Error>>;

/// Inserts the ids of the calls of a group.
fn insert_all(conn: &mut Conn, ids: Vec<i64>) -> BoxFuture<'_, Result<GroupOutcomes<(), Error>, Error>> {
    Box::pin(async move {
        let mut outcomes = Vec::new();
        for id in ids {
            let is_left_out = id >= LEFT_OUT;
            if !is_left_out {
                conn.execute("insert into items (id) values ($1)", args![id + GROUPED]).await?;
            }
            outcomes.push((!is_left_out).then_some(Ok(())));
        }
        Ok(outcomes)
    })
}

/// Groups whose slot is occupied by a call, until that is released. It is polled from then on.
struct Occupied {
    db: Db,
    groups: Arc<Groups<i64, (), Error>>,
    released: Arc<Semaphore>,
    occupying: Option<Call>,
}

impl Occupied {
    async fn new(database: &TestDatabase, limit: Duration) -> Self {
        let db = open(database, &pool(4, limit)).await;
        let groups = Arc::new(Groups::new(db.clone(), GroupKind::Write, insert_all));
        let mut occupied = Self { db, groups, released: Arc::new(Semaphore::new(0)), occupying: None };
        let (groups, released) = (Arc::clone(&occupied.groups), Arc::clone(&occupied.released));
        let alone = |_| async move { released.acquire().await.map(drop).map_err(|_| Error::Closed) };
        occupied.occupying = Some(begun(async move { groups.call(0, alone).await }));
        occupied
    }

    /// Returns a call that waits.
    fn call(&self, id: i64) -> Call {
        let (db, groups) = (self.db.clone(), Arc::clone(&self.groups));
        begun(async move { groups.call(id, |id| async move { insert(&db, id).await.map(drop) }).await })
    }

    /// Returns calls that wait.
    fn calls(&self, ids: impl IntoIterator<Item = i64>) -> Vec<Call> {
        ids.into_iter().map(|id| self.call(id)).collect()
    }

    /// Releases the slot. Returns the outcomes of the calls, and the stored ids.
    async fn release(self, calls: Vec<Call>) -> (Vec<Result<(), Error>>, Vec<i64>) {
        self.released.add_permits(1);
        let (occupying, outcomes) = tokio::join!(join_all(self.occupying), join_all(calls));
        assert!(occupying.iter().all(Result::is_ok), "{occupying:?}");
        let ids = ids(&self.db).await;
        self.db.close().await;
        (outcomes, ids)
    }
}

/// Polls a call once, so that it is in a slot or waits.
fn begun(call: impl Future<Output = Result<(), Error>> + Send + 'static) -> Call {
    let mut call = Box::pin(call);
    assert!((&mut call).now_or_never().is_none(), "it does not end at once");
    call
}

async fn calls_that_wait_are_executed_together(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls(1..=20);
    let (outcomes, ids) = occupied.release(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(ids, (GROUPED + 1..=GROUPED + 20).collect::<Vec<_>>());
}

async fn large_groups_are_split(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls(1..=300);
    let (outcomes, ids) = occupied.release(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // The last one may have waited alone.
    assert_eq!(ids.iter().map(|id| id % GROUPED).collect::<BTreeSet<_>>().len(), 300);
    assert!(ids.iter().filter(|id| **id > GROUPED).count() >= 299, "{ids:?}");
}

async fn a_failing_call_fails_alone(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls([1, 2, 3, 3, 4]);
    let (outcomes, ids) = occupied.release(calls).await;
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(matches!(&failed[..], [error] if error.is_unique_violation()), "{failed:?}");
    assert_eq!(ids, [1, 2, 3, 4]);
}

async fn a_call_that_its_group_leaves_out_is_executed_alone(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls([1, LEFT_OUT, 2]);
    let (outcomes, ids) = occupied.release(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(ids, [LEFT_OUT, GROUPED + 1, GROUPED + 2]);
}

async fn a_call_that_waits_alone_is_executed_alone(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls([7]);
    let (outcomes, ids) = occupied.release(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(ids, [7]);
}

async fn calls_abandoned_while_they_wait_are_not_executed(database: TestDatabase) {
    let occupied = Occupied::new(&database, LIMIT).await;
    let mut calls = occupied.calls(1..=9);
    drop(calls.drain(2..7));
    let (outcomes, ids) = occupied.release(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(ids, [1, 2, 8, 9].map(|id| id + GROUPED));
}

async fn a_call_whose_group_does_not_begin_in_time_is_not_executed(database: TestDatabase) {
    let occupied = Occupied::new(&database, Duration::from_millis(200)).await;
    for outcome in join_all(occupied.calls([1, 2])).await {
        let error = outcome.expect_err("its group does not begin");
        assert!(matches!(error, Error::Timeout), "{error}");
    }
    let (_, ids) = occupied.release(Vec::new()).await;
    assert_eq!(ids, [0_i64; 0]);
}

async fn a_slow_call_does_not_hold_up_others(database: TestDatabase) {
    let mut occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls(1..=9);
    let slow = tokio::spawn(occupied.occupying.take().expect("it is occupied"));
    let outcomes = join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(!slow.is_finished());
    let (_, ids) = occupied.release(Vec::new()).await;
    assert_eq!(ids, (GROUPED + 1..=GROUPED + 9).collect::<Vec<_>>());
    slow.await.expect("no panic").expect("it was released");
}

async fn calls_beyond_a_group_that_waits_for_a_connection_are_executed(database: TestDatabase) {
    let mut occupied = Occupied::new(&database, LIMIT).await;
    let calls = occupied.calls(1..=33);
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    // All connections are in use.
    let busy = join_all((0..4).map(|_| {
        let (db, released) = (occupied.db.clone(), Arc::clone(&released));
        tokio::spawn(async move {
            let work = db.write(move |_| {
                Box::pin(async move {
                    tokio::task::block_in_place(|| _ = released.lock().map(|released| released.recv()));
                    Ok::<_, Error>(())
                })
            });
            work.await
        })
    }));
    sleep(Duration::from_millis(50)).await;
    occupied.released.add_permits(1);
    occupied.occupying.take().expect("it is occupied").await.expect("it was released");
    // Longer than a group occupies a slot.
    sleep(Duration::from_millis(50)).await;
    drop(release);
    let (outcomes, busy) = tokio::join!(join_all(calls), busy);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(busy.iter().all(Result::is_ok), "{busy:?}");
    let (_, ids) = occupied.release(Vec::new()).await;
    assert_eq!(ids.len(), 33);
}
