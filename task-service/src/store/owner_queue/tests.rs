//! Writes of one owner use one connection, no matter how many of them wait or are cancelled.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt, future::join_all};
use service_kit::{args, testing::TestDatabase};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::*;
use crate::store::tests::{open, row_rate_limit};

const ANN: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);
const LIMIT: Duration = Duration::from_secs(10);

impl OwnerQueue {
    fn is_empty(&self) -> bool {
        [ANN, BOB].iter().all(|owner| self.turns.count(*owner) == 0)
    }
}

#[tokio::test]
async fn writes_of_an_owner_take_turns_in_the_order_of_arrival() {
    let queue = OwnerQueue::new(LIMIT, row_rate_limit());
    let first = queue.acquire(ANN).await.expect("no write waits");
    let mut second = Box::pin(queue.acquire(ANN));
    let mut third = Box::pin(queue.acquire(ANN));
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    drop(first);
    assert!((&mut third).now_or_never().is_none());
    drop(second.await.expect("its turn has come"));
    drop(third.await.expect("its turn has come"));
    assert!(queue.is_empty());
}

#[tokio::test]
async fn owners_do_not_wait_for_each_other() {
    let queue = OwnerQueue::new(LIMIT, row_rate_limit());
    let _ann = queue.acquire(ANN).await.expect("no write waits");
    queue.acquire(BOB).now_or_never().expect("it does not wait").expect("its turn has come");
}

#[tokio::test]
async fn a_cancelled_caller_leaves_the_queue() {
    let queue = OwnerQueue::new(LIMIT, row_rate_limit());
    let first = queue.acquire(ANN).await.expect("no write waits");
    for _ in 0..1000 {
        assert!(queue.acquire(ANN).now_or_never().is_none());
    }
    assert_eq!(queue.turns.count(ANN), 1);
    drop(first);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waiting_longer_than_the_limit_is_a_timeout() {
    let queue = OwnerQueue::new(LIMIT, row_rate_limit());
    let first = queue.acquire(ANN).await.expect("no write waits");
    let error = queue.acquire(ANN).await.expect_err("its turn does not come");
    assert!(matches!(error, db::Error::Timeout), "{error}");
    drop(first);
    assert!(queue.is_empty());
}

/// The number of writes that are being executed, and its maximum.
#[derive(Default)]
struct Running {
    now: AtomicUsize,
    max: AtomicUsize,
}

/// Executes a transaction that takes this many milliseconds.
async fn write(queue: &OwnerQueue, db: &Db, owner: Uuid, millis: i64, running: Arc<Running>) -> Result<(), db::Error> {
    let work = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            running.max.fetch_max(running.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let slept = conn.execute("select pg_sleep($1 / 1000.0)", args![millis]).await;
            running.now.fetch_sub(1, Ordering::Relaxed);
            slept.map(drop)
        })
    });
    work.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_owner_does_not_occupy_the_connections_of_others() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let (db, queue) = (open(&database).await, Arc::new(OwnerQueue::new(LIMIT, row_rate_limit())));
    let (ann_running, bob_running) = (Arc::<Running>::default(), Arc::<Running>::default());
    let mut tasks = JoinSet::new();
    for number in 0..300 {
        let (db, queue, running) = (db.clone(), Arc::clone(&queue), Arc::clone(&ann_running));
        tasks.spawn(async move {
            let cancel_after = Duration::from_millis(number % 30 * 10);
            _ = timeout(cancel_after, write(&queue, &db, ANN, 5, running)).await;
        });
    }
    join_all((0..10).map(|_| write(&queue, &db, BOB, 1, Arc::clone(&bob_running)))).await;
    while tasks.join_next().await.is_some() {}
    // A write that has begun continues after its caller is dropped, so the queue may not be empty yet.
    write(&queue, &db, ANN, 0, Arc::clone(&ann_running)).await.expect("its turn comes");
    assert_eq!((ann_running.max.load(Ordering::Relaxed), bob_running.max.load(Ordering::Relaxed)), (1, 1));
    assert!(queue.is_empty());
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_lasts_until_the_commit_even_if_the_caller_is_dropped() {
    const SLEEP: &str = "
        create function sleep() returns trigger language plpgsql as
        'begin perform pg_sleep(0.2); return null; end'";
    const SLOW_COMMIT: &str = "
        create constraint trigger slow_commit after insert on owners deferrable initially deferred
        for each row execute function sleep()";
    const INSERT: &str = "
        insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists) values ($1, 1, 0, 0, 0)";
    const COUNT: &str = "select count(*) from owners";
    let Some(database) = TestDatabase::postgres().await else { return };
    let (db, queue) = (open(&database).await, Arc::new(OwnerQueue::new(LIMIT, row_rate_limit())));
    for statement in [SLEEP, SLOW_COMMIT] {
        db.execute(statement, args![]).await.expect("the commit of an insert becomes slow");
    }
    let (begin, begun) = oneshot::channel();
    let first = tokio::spawn({
        let (db, queue) = (db.clone(), Arc::clone(&queue));
        async move {
            let work = queue.write(&db, ANN, |conn| {
                Box::pin(async move {
                    conn.execute(INSERT, args![ANN]).await?;
                    _ = begin.send(());
                    Ok::<_, db::Error>(())
                })
            });
            work.await
        }
    });
    begun.await.expect("the write begins");
    first.abort();
    assert!(first.await.is_err_and(|error| error.is_cancelled()));
    let count = queue.write(&db, ANN, |conn| Box::pin(conn.fetch_one(COUNT, args![])));
    let count: Result<i64, db::Error> = count.await;
    assert_eq!(count.expect("its turn comes"), 1, "the first write has been committed");
    assert!(queue.is_empty());
    db.close().await;
}
