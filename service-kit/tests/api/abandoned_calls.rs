//! Database calls that are dropped by their caller: their effect on other calls, and whether they are executed.

use std::{sync::mpsc, time::Duration};

use service_kit::{
    args,
    db::{Db, Error, Migrate, PoolArgs, QueryBuilder, ReadKind},
    on_each_database,
    testing::TestDatabase,
};
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

on_each_database! {
    write_abandoned_in_the_queue_is_not_executed,
    write_that_times_out_in_the_queue_is_not_executed,
    exactly_the_acknowledged_writes_behind_a_long_write_take_effect,
    write_that_has_started_is_completed,
}

const INSERT: &str = "insert into items (id) values ($1)";

/// A SQLite query that never ends.
pub(crate) const ENDLESS_QUERY: &str =
    "with recursive n (i) as (select 1 union all select i + 1 from n) select max(i) from n";

pub(crate) fn pool(database_connections: u32, database_timeout: Duration) -> PoolArgs {
    PoolArgs { database_connections, database_timeout, database_direct_url: None }
}

pub(crate) async fn open(database: &TestDatabase, args: &PoolArgs) -> Db {
    let table = SqlStr::from_static("create table items (id bigint primary key)");
    let migration = Migration::new(1, "items".into(), MigrationType::Simple, table, false);
    let migrations = Migrator::with_migrations(vec![migration]);
    Db::open(&database.parsed_url(), "test", &migrations, Migrate::Always, args).await.expect("the database opens")
}

pub(crate) async fn insert(db: &Db, id: i64) -> Result<u64, Error> {
    db.execute(INSERT, args![id]).await
}

pub(crate) async fn ids(db: &Db) -> Vec<i64> {
    db.fetch_all("select id from items order by id", args![]).await.expect("the items are read")
}

/// Occupies the only connection for writes until the sender is dropped, then inserts `id`.
async fn occupy(db: &Db, id: i64) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<u64, Error>>) {
    let (release, released) = mpsc::channel::<()>();
    let (start, started) = tokio::sync::oneshot::channel();
    let db = db.clone();
    let write = tokio::spawn(async move {
        db.write(move |conn| {
            Box::pin(async move {
                _ = start.send(());
                // This blocks a thread, as a slow disk blocks the writer thread of SQLite.
                tokio::task::block_in_place(|| _ = released.recv());
                conn.execute(INSERT, args![id]).await
            })
        })
        .await
    });
    started.await.expect("the write starts");
    (release, write)
}

async fn write_abandoned_in_the_queue_is_not_executed(database: TestDatabase) {
    let db = open(&database, &pool(1, Duration::from_secs(10))).await;
    let (release, occupying) = occupy(&db, 1).await;
    for id in 2..10 {
        assert!(timeout(Duration::from_millis(5), insert(&db, id)).await.is_err(), "the connection is occupied");
    }
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { insert(&db, 10).await }
    });
    drop(release);
    occupying.await.expect("no panic").expect("written");
    waiting.await.expect("no panic").expect("written");
    assert_eq!(ids(&db).await, [1, 10]);
}

async fn write_that_times_out_in_the_queue_is_not_executed(database: TestDatabase) {
    let db = open(&database, &pool(1, Duration::from_millis(300))).await;
    let (release, occupying) = occupy(&db, 1).await;
    let error = insert(&db, 2).await.expect_err("it times out");
    assert!(matches!(error, Error::Timeout), "{error}");
    drop(release);
    // On PostgreSQL the occupying write may have exceeded the time limit itself.
    let is_first_inserted = occupying.await.expect("no panic").is_ok();
    insert(&db, 3).await.expect("written");
    assert_eq!(ids(&db).await, if is_first_inserted { vec![1, 3] } else { vec![3] });
}

async fn exactly_the_acknowledged_writes_behind_a_long_write_take_effect(database: TestDatabase) {
    let db = open(&database, &pool(1, Duration::from_millis(300))).await;
    let (release, occupying) = occupy(&db, 0).await;
    let mut writes = JoinSet::new();
    // Some are refused while the long write lasts, and some wait until its end.
    for id in 1..60_i64 {
        let db = db.clone();
        writes.spawn(async move {
            tokio::time::sleep(Duration::from_millis(id.unsigned_abs() * 10)).await;
            (id, insert(&db, id).await.is_ok())
        });
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    drop(release);
    let mut acknowledged: Vec<i64> =
        writes.join_all().await.into_iter().filter(|(_, ok)| *ok).map(|(id, _)| id).collect();
    acknowledged.sort_unstable();
    if occupying.await.expect("no panic").is_ok() {
        acknowledged.insert(0, 0);
    }
    assert!((1..59).contains(&acknowledged.len()), "{acknowledged:?}");
    insert(&db, 100).await.expect("written");
    acknowledged.push(100);
    assert_eq!(ids(&db).await, acknowledged);
}

async fn write_that_has_started_is_completed(database: TestDatabase) {
    let db = open(&database, &pool(1, Duration::from_secs(10))).await;
    let (release, occupying) = occupy(&db, 1).await;
    occupying.abort();
    drop(release);
    insert(&db, 2).await.expect("the connection is free again");
    assert_eq!(ids(&db).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_calls_do_not_close_postgresql_connections() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = open(&database, &pool(5, Duration::from_secs(5))).await;
    let mut tasks = JoinSet::new();
    for id in 0..3000_u64 {
        let db = db.clone();
        tasks.spawn(async move {
            let caller_timeout = Duration::from_micros(id % 50 * 100);
            _ = timeout(caller_timeout, insert(&db, id.cast_signed())).await;
            _ = timeout(caller_timeout, db.fetch_optional::<i64>("select id from items where id = $1", args![7_i64]))
                .await;
            _ = timeout(caller_timeout, db.fetch_all::<i64>("select id from items", args![])).await;
        });
    }
    tasks.join_all().await;
    db.close().await;
    // Five sessions of the pool, and those opened at start-up.
    let sessions = database.session_count().await;
    assert!(sessions < 20, "{sessions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sqlite_scan_is_interrupted_at_its_deadline() {
    let database = TestDatabase::sqlite();
    let db = open(&database, &pool(1, Duration::from_millis(200))).await;
    for _ in 0..3 {
        let error = db.fetch_all::<i64>(ENDLESS_QUERY, args![]).await.expect_err("it is interrupted");
        assert!(matches!(error, Error::Timeout | Error::Sqlite { code: 9, .. }), "{error}");
    }
    insert(&db, 1).await.expect("written");
    assert_eq!(ids(&db).await, [1], "the only scan thread is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sqlite_point_read_is_interrupted_at_its_deadline() {
    let database = TestDatabase::sqlite();
    let db = open(&database, &pool(1, Duration::from_millis(200))).await;
    for _ in 0..3 {
        let error = db.fetch_optional::<i64>(ENDLESS_QUERY, args![]).await.expect_err("it is interrupted");
        assert!(matches!(error, Error::Timeout | Error::Sqlite { code: 9, .. }), "{error}");
    }
    let read = db.fetch_optional::<i64>("select 1", args![]).await;
    assert_eq!(read.expect("the only connection for point reads is free again"), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_read_of_sqlite_that_takes_long_becomes_a_scan() {
    let database = TestDatabase::sqlite();
    let db = open(&database, &pool(1, Duration::from_secs(60))).await;
    let scanning = tokio::spawn({
        let db = db.clone();
        async move { db.fetch_all::<i64>(ENDLESS_QUERY, args![]).await }
    });
    let count_to = async |limit: i64| {
        let count =
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < $1) select max(i) from n";
        db.read_short(move |conn| Box::pin(conn.fetch_one::<i64>(count, args![limit]))).await
    };
    assert_eq!(count_to(3).await.expect("it does not wait behind the scan"), 3);
    let waiting = timeout(Duration::from_millis(200), count_to(1_000_000)).await;
    assert!(waiting.is_err(), "it waits for the only scan thread");
    scanning.abort();
    assert_eq!(count_to(1_000_000).await.expect("the scan thread is free"), 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sqlite_write_is_interrupted_without_effect() {
    let database = TestDatabase::sqlite();
    let db = open(&database, &pool(1, Duration::from_millis(200))).await;
    let endless = "insert into items with recursive n (i) as (select 1 union all select i + 1 from n) select i from n
        where i = 1 or i < 0";
    let error = db.execute(endless, args![]).await.expect_err("it is interrupted");
    assert!(matches!(error, Error::NotCommitted(_)), "{error}");
    insert(&db, 2).await.expect("the writer is free again");
    assert_eq!(ids(&db).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sqlite_scan_is_interrupted_when_its_caller_is_dropped() {
    let database = TestDatabase::sqlite();
    // The deadline is too long to have an effect.
    let db = open(&database, &pool(1, Duration::from_secs(3600))).await;
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(5), db.fetch_all::<i64>(ENDLESS_QUERY, args![])).await.is_err());
    }
    assert_eq!(ids(&db).await, [0_i64; 0], "the only scan thread is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_postgresql_read_is_cancelled_when_its_caller_is_dropped() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = open(&database, &pool(1, Duration::from_secs(60))).await;
    let sleep = QueryBuilder::new("select 1::bigint from pg_sleep(50)").build().0;
    for _ in 0..3 {
        let sleeping = db.fetch_all::<i64>(sleep.clone(), args![]);
        assert!(timeout(Duration::from_millis(100), sleeping).await.is_err());
    }
    timeout(Duration::from_secs(20), insert(&db, 1)).await.expect("the only connection is free").expect("written");
}

/// Measures point reads, and returns the 99th percentile of their latency.
async fn p99(db: &Db) -> Duration {
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        let read = async { db.fetch_optional::<i64>("select id from items where id = $1", args![1_i64]).await };
        assert_eq!(read.await.expect("read"), Some(1));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_point_reads_of_sqlite_do_not_wait_behind_scans() {
    let database = TestDatabase::sqlite();
    let db = open(&database, &pool(10, Duration::from_secs(10))).await;
    insert(&db, 1).await.expect("written");
    let idle = p99(&db).await;
    let mut scans = JoinSet::new();
    for _ in 0..10 {
        let db = db.clone();
        scans.spawn(async move {
            db.read(ReadKind::Scan, |conn| Box::pin(conn.fetch_all::<i64>(ENDLESS_QUERY, args![]))).await
        });
    }
    let loaded = p99(&db).await;
    assert!(scans.try_join_next().is_none(), "all scans are still running");
    assert!(loaded < (idle * 3).max(Duration::from_millis(10)), "the latency rose from {idle:?} to {loaded:?}");
}
