//! `Db` on both engines: concurrent calls, isolation of failures, and errors of unusable databases.

use std::{os::unix::fs::PermissionsExt, sync::LazyLock, time::Duration};

use clap::Parser;
use service_kit::{
    args,
    db::{Db, Error, Migrate, PoolArgs, ReadKind},
    on_each_database,
    status::ApiError,
    testing::{self, TestDatabase},
};
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::task::JoinSet;
use tonic::Code;

on_each_database! {
    concurrent_writes_all_take_effect,
    constraint_violation_fails_only_its_own_write,
    failed_transaction_has_no_effect,
    panic_in_a_read_does_not_affect_other_reads,
    panic_in_a_write_does_not_affect_later_writes,
    abandoned_writes_do_not_affect_later_writes,
    replicas_can_start_simultaneously,
    read_after_a_write_sees_it,
    tables_of_another_program_are_refused,
    reads_of_the_feed_do_not_wait_behind_calls,
}

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrations("create table items (id bigint primary key)"));

fn migrations(sql: &'static str) -> Migrator {
    let migration = Migration::new(1, "items".into(), MigrationType::Simple, SqlStr::from_static(sql), false);
    Migrator::with_migrations(vec![migration])
}

fn pool() -> PoolArgs {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        pool: PoolArgs,
    }
    Cli::parse_from([""]).pool
}

async fn open(database: &TestDatabase) -> Db {
    open_with(database, &pool()).await
}

async fn open_with(database: &TestDatabase, args: &PoolArgs) -> Db {
    Db::open(&database.parsed_url(), "test", &MIGRATIONS, Migrate::Always, args).await.expect("the database opens")
}

const INSERT: &str = "insert into items (id) values ($1)";

async fn insert(db: &Db, id: i64) -> Result<(), Error> {
    db.execute(INSERT, args![id]).await.map(drop)
}

async fn ids(db: &Db) -> Vec<i64> {
    db.fetch_all("select id from items order by id", args![]).await.expect("the items are read")
}

/// Executes a statement that takes this many seconds.
async fn sleep(db: &Db, seconds: &str) -> Result<(), Error> {
    let sql = format!("select 1::bigint from pg_sleep({seconds})");
    let sql = service_kit::db::QueryBuilder::new(sql).build().0;
    db.fetch_all::<i64>(sql, args![]).await.map(drop)
}

async fn reads_of_the_feed_do_not_wait_behind_calls(database: TestDatabase) {
    const SLOW: &str = "
        with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 100000000)
        select count(*) from numbers";
    let db = open_with(&database, &PoolArgs { database_connections: 1, ..pool() }).await;
    let feed = db.for_feed();
    feed.fetch_optional::<i64>("select cast(1 as bigint)", args![]).await.expect("the connection is open");
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let db = db.clone();
        // They take longer than their limit.
        calls.spawn(async move { db.fetch_all::<i64>(SLOW, args![]).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..10 {
        let read = feed.fetch_optional::<i64>("select cast(1 as bigint)", args![]);
        let read = tokio::time::timeout(Duration::from_secs(1), read).await.expect("the feed does not wait");
        assert_eq!(read.expect("read"), Some(1));
    }
    assert!(calls.try_join_next().is_none(), "the calls still occupy the connections");
    calls.abort_all();
    db.close().await;
}

async fn concurrent_writes_all_take_effect(database: TestDatabase) {
    let db = open(&database).await;
    let mut writes = JoinSet::new();
    for id in 0..500 {
        let db = db.clone();
        writes.spawn(async move { insert(&db, id).await });
    }
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    assert_eq!(ids(&db).await, (0..500).collect::<Vec<_>>());
    db.close().await;
    assert_eq!(ids(&open(&database).await).await.len(), 500);
}

async fn constraint_violation_fails_only_its_own_write(database: TestDatabase) {
    let db = open(&database).await;
    insert(&db, 7).await.expect("inserted");
    let mut writes = JoinSet::new();
    for id in 0..50_i64 {
        let db = db.clone();
        writes.spawn(async move { (id, insert(&db, id).await) });
    }
    for (id, outcome) in writes.join_all().await {
        match outcome {
            Ok(()) => assert_ne!(id, 7),
            Err(error) => assert!(id == 7 && error.is_unique_violation(), "{id}: {error}"),
        }
    }
    assert_eq!(ids(&db).await.len(), 50);
}

async fn failed_transaction_has_no_effect(database: TestDatabase) {
    let db = open(&database).await;
    insert(&db, 1).await.expect("inserted");
    let insert_both = |ids: [i64; 2]| {
        db.write(move |conn| {
            Box::pin(async move {
                for id in ids {
                    conn.execute(INSERT, args![id]).await?;
                }
                Ok::<_, Error>(())
            })
        })
    };
    let (failed, concurrent) = tokio::join!(insert_both([2, 1]), insert_both([3, 4]));
    assert!(failed.expect_err("1 exists").is_unique_violation());
    concurrent.expect("the concurrent transaction is not affected");
    assert_eq!(ids(&db).await, [1, 3, 4]);
}

async fn read_after_a_write_sees_it(database: TestDatabase) {
    let db = open(&database).await;
    let mut callers = JoinSet::new();
    for id in 0..200_i64 {
        let db = db.clone();
        callers.spawn(async move {
            insert(&db, id).await.expect("inserted");
            let by_key = db.fetch_optional("select id from items where id = $1", args![id]).await;
            by_key.expect("looked up") == Some(id) && ids(&db).await.contains(&id)
        });
    }
    assert!(callers.join_all().await.into_iter().all(|seen| seen));
}

/// Reads a number, and panics if its last digit is `digit`.
async fn read_or_panic(db: &Db, kind: ReadKind, number: i64, digit: i64) -> Result<i64, Error> {
    db.read(kind, move |conn| {
        Box::pin(async move {
            let number: i64 = conn.fetch_one("select $1", args![number]).await?;
            assert_ne!(number % 10, digit, "a panic in the middle of a read");
            Ok(number)
        })
    })
    .await
}

async fn panic_in_a_read_does_not_affect_other_reads(database: TestDatabase) {
    let db = open(&database).await;
    let mut readers = JoinSet::new();
    for number in 0..60_i64 {
        let db = db.clone();
        readers.spawn(async move {
            let read = if number % 2 == 0 {
                read_or_panic(&db, ReadKind::Point, number, 6).await
            } else {
                read_or_panic(&db, ReadKind::Scan, number, 7).await
            };
            (number, read.ok())
        });
    }
    let (mut read, mut failed) = (0, 0);
    while let Some(reader) = readers.join_next().await {
        match reader {
            Ok((number, Some(result))) => read += i32::from(number == result),
            _ => failed += 1,
        }
    }
    assert_eq!((read, failed), (48, 12));
}

async fn panic_in_a_write_does_not_affect_later_writes(database: TestDatabase) {
    let db = open(&database).await;
    let panicking = db.write(|conn| {
        Box::pin(async move {
            let id: i64 = conn.fetch_one("insert into items (id) values (1) returning id", args![]).await?;
            assert_ne!(id, 1, "a panic in the middle of a write");
            Ok::<_, Error>(())
        })
    });
    panicking.await.expect_err("the caller gets an error");
    insert(&db, 2).await.expect("the next write succeeds");
    assert_eq!(ids(&db).await, [2]);
}

async fn abandoned_writes_do_not_affect_later_writes(database: TestDatabase) {
    let db = open(&database).await;
    for id in 0..50_i64 {
        _ = tokio::time::timeout(Duration::from_micros(20 * id.unsigned_abs()), insert(&db, id)).await;
    }
    for id in 100..110 {
        insert(&db, id).await.expect("inserted");
    }
    let ids = ids(&db).await;
    assert_eq!(ids.iter().filter(|id| **id >= 100).count(), 10);
    assert!(ids.iter().all(|id| *id < 50 || *id >= 100), "{ids:?}");
}

async fn replicas_can_start_simultaneously(database: TestDatabase) {
    start_simultaneously(&database, 4).await;
}

/// Each attempt may find the new file in another intermediate state, so the test makes many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_on_a_new_file_wait_for_each_other() {
    for _ in 0..40 {
        start_simultaneously(&TestDatabase::sqlite(), 2).await;
    }
}

async fn start_simultaneously(database: &TestDatabase, count: i64) {
    let mut replicas = JoinSet::new();
    for id in 0..count {
        let url = database.parsed_url();
        replicas.spawn(async move {
            let db = Db::open(&url, "test", &MIGRATIONS, Migrate::Always, &pool()).await.expect("the database opens");
            insert(&db, id).await.expect("inserted");
        });
    }
    replicas.join_all().await;
    assert!(ids(&open(database).await).await.into_iter().eq(0..count));
}

async fn tables_of_another_program_are_refused(database: TestDatabase) {
    open(&database).await.close().await;
    let other_migrations = migrations("create table others (id bigint primary key)");
    let error = Db::open(&database.parsed_url(), "test", &other_migrations, Migrate::Always, &pool())
        .await
        .expect_err("refused");
    assert!(format!("{error:#}").contains("not those of this program"), "{error:#}");
}

#[tokio::test]
async fn database_file_is_accessible_only_to_its_owner() {
    let database = TestDatabase::sqlite();
    let db = open(&database).await;
    insert(&db, 1).await.expect("inserted");
    for entry in database.folder().read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    db.close().await;
}

#[tokio::test]
async fn call_that_takes_too_long_is_unavailable() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let args = PoolArgs { database_timeout: Duration::from_millis(200), database_connections: 1, ..pool() };
    let db = open_with(&database, &args).await;
    let error = ApiError::from(sleep(&db, "30").await.expect_err("it times out"));
    assert_eq!(error.code(), Code::Unavailable);
    // The only connection of the pool is not lost.
    insert(&db, 1).await.expect("inserted");
}

#[tokio::test]
async fn listener_receives_notifications_even_after_its_connection_was_closed() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = open(&database).await;
    let woken = std::sync::Arc::new(tokio::sync::Notify::new());
    let (listener, notify) = (db.clone(), std::sync::Arc::clone(&woken));
    let listening = tokio::spawn(async move { listener.listen("test_channel", || notify.notify_one()).await });
    let execute = async |sql: &'static str| db.execute(sql, args![]).await.expect("executed");
    let wait_for_wake_up =
        async || tokio::time::timeout(Duration::from_secs(10), woken.notified()).await.expect("woken");
    wait_for_wake_up().await;
    execute("select pg_notify('test_channel', '')").await;
    wait_for_wake_up().await;
    let disconnect = "select pg_terminate_backend(pid) from pg_stat_activity
        where query ilike 'listen%' and datname = current_database()";
    execute(disconnect).await;
    wait_for_wake_up().await;
    execute("select pg_notify('test_channel', '')").await;
    wait_for_wake_up().await;
    listening.abort();
}

#[tokio::test]
async fn abandoned_calls_do_not_exhaust_the_pool() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let args = PoolArgs { database_connections: 2, ..pool() };
    let db = open_with(&database, &args).await;
    for _ in 0..10 {
        assert!(tokio::time::timeout(Duration::from_millis(50), sleep(&db, "1")).await.is_err());
    }
    insert(&db, 1).await.expect("there is a connection left");
}

#[tokio::test]
async fn connection_error_contains_the_address_but_not_the_password() {
    let url = "postgres://me:hunter2@127.0.0.1:1/db".parse().expect("a URL");
    let error =
        Db::open(&url, "test", &MIGRATIONS, Migrate::Always, &pool()).await.expect_err("nothing listens on this port");
    let text = format!("{error:#} {url:?}");
    assert!(text.contains("127.0.0.1:1") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn file_that_is_not_a_database_is_refused_and_unchanged() {
    let folder = testing::folder();
    let file = folder.path().join("x.db");
    let content = "no database ".repeat(1000);
    std::fs::write(&file, &content).expect("written");
    let url = format!("sqlite:{}", file.display()).parse().expect("a URL");
    let error = Db::open(&url, "test", &MIGRATIONS, Migrate::Always, &pool()).await.expect_err("refused");
    assert!(format!("{error:#}").contains("not a database"), "{error:#}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), content);
}

/// Returns the name, the content and the modification time of each file in a folder.
fn fingerprint(folder: &std::path::Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut files: Vec<_> = folder
        .read_dir()
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let modified = entry.metadata().expect("a file").modified().expect("a time");
            (entry.file_name().display().to_string(), std::fs::read(entry.path()).expect("readable"), modified)
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn database_of_another_program_is_refused_and_unchanged() {
    use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};
    for journal in ["delete", "wal"] {
        let folder = testing::folder();
        let file = folder.path().join("other.db");
        let mut connection =
            SqliteConnectOptions::new().filename(&file).create_if_missing(true).connect().await.expect("made");
        let journal = sqlx::AssertSqlSafe(format!("pragma journal_mode = {journal}"));
        connection.execute(journal).await.expect("set");
        connection.execute("create table bookmarks (url text)").await.expect("created");
        connection.close().await.expect("closed");
        let before = fingerprint(folder.path());
        let url = format!("sqlite:{}", file.display()).parse().expect("a URL");
        let error = Db::open(&url, "test", &MIGRATIONS, Migrate::Always, &pool()).await.expect_err("refused");
        assert!(format!("{error:#}").contains("tables of another program"), "{error:#}");
        Db::inspect(&url, "test", &MIGRATIONS).await.expect_err("refused");
        assert!(fingerprint(folder.path()) == before, "the folder is unchanged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_database_file_removes_its_log() {
    let database = TestDatabase::sqlite();
    let db = open(&database).await;
    insert(&db, 1).await.expect("inserted");
    assert_eq!(ids(&db).await, [1]);
    let by_key: Option<i64> =
        db.fetch_optional("select id from items where id = $1", args![1_i64]).await.expect("read");
    assert_eq!(by_key, Some(1));
    db.close().await;
    let closed = db.fetch_optional::<i64>("select 1", args![]).await;
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
    let files: Vec<_> = fingerprint(database.folder()).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(files, ["test.db"]);
}
