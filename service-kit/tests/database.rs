//! One handle for both engines: what is written together, what fails alone, and what an unusable database answers.

use std::{os::unix::fs::PermissionsExt, sync::LazyLock, time::Duration};

use clap::Parser;
use service_kit::{
    config::PoolArgs,
    db::{Db, Error},
    db_look_up, db_read, db_transaction, db_write, on_each_database,
    status::Refusal,
    testing::{self, TestDatabase},
};
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::task::JoinSet;
use tonic::Code;

on_each_database! {
    concurrent_writes_are_all_there,
    a_write_that_violates_a_constraint_fails_alone,
    a_transaction_that_fails_takes_no_effect,
    a_read_that_panics_takes_no_other_with_it,
    a_write_that_panics_does_not_end_the_database,
    a_write_whose_caller_has_gone_takes_effect_or_none,
    several_replicas_may_start_at_once,
    who_reads_after_a_write_sees_it,
    the_tables_of_another_program_are_refused,
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
    Db::open(&database.parsed_url(), "test", &MIGRATIONS, &pool()).await.expect("the database opens")
}

async fn insert(db: &Db, id: i64) -> Result<(), Error> {
    db_write!(db, |connection| {
        sqlx::query("insert into items (id) values ($1)").bind(id).execute(connection).await.map(|_| ())
    })
}

async fn ids(db: &Db) -> Vec<i64> {
    let ids = db_read!(db, |connection| {
        sqlx::query_scalar("select id from items order by id").fetch_all(connection).await
    });
    ids.expect("the items are read")
}

async fn concurrent_writes_are_all_there(database: TestDatabase) {
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

async fn a_write_that_violates_a_constraint_fails_alone(database: TestDatabase) {
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

async fn a_transaction_that_fails_takes_no_effect(database: TestDatabase) {
    let db = open(&database).await;
    insert(&db, 1).await.expect("inserted");
    let several = async |ids: [i64; 2]| {
        db_transaction!(&db, |connection| {
            for id in ids {
                sqlx::query("insert into items (id) values ($1)").bind(id).execute(&mut *connection).await?;
            }
            Ok(())
        })
    };
    let (failed, beside) = tokio::join!(several([2, 1]), several([3, 4]));
    assert!(failed.expect_err("1 is there").is_unique_violation());
    beside.expect("the others are not concerned");
    assert_eq!(ids(&db).await, [1, 3, 4]);
}

async fn who_reads_after_a_write_sees_it(database: TestDatabase) {
    let db = open(&database).await;
    let mut callers = JoinSet::new();
    for id in 0..200_i64 {
        let db = db.clone();
        callers.spawn(async move {
            insert(&db, id).await.expect("inserted");
            let by_key = db_look_up!(&db, |connection| {
                sqlx::query_scalar("select id from items where id = $1").bind(id).fetch_optional(connection).await
            });
            by_key.expect("looked up") == Some(id) && ids(&db).await.contains(&id)
        });
    }
    assert!(callers.join_all().await.into_iter().all(|seen| seen));
}

/// Reads a number, and panics at those that end with a digit.
macro_rules! read_unless {
    ($connection:ident, $number:ident ends with $digit:literal) => {{
        let number: i64 = sqlx::query_scalar("select $1").bind($number).fetch_one($connection).await?;
        assert_ne!(number % 10, $digit, "a panic in the middle of a read");
        Ok(number)
    }};
}

async fn a_read_that_panics_takes_no_other_with_it(database: TestDatabase) {
    let db = open(&database).await;
    let mut readers = JoinSet::new();
    for number in 0..60_i64 {
        let db = db.clone();
        readers.spawn(async move {
            // What is said to be of one row is not run where the others are.
            let read = if number % 2 == 0 {
                db_look_up!(&db, |connection| read_unless!(connection, number ends with 6))
            } else {
                db_read!(&db, |connection| read_unless!(connection, number ends with 7))
            };
            (number, read.ok())
        });
    }
    let (mut read, mut failed) = (0, 0);
    while let Some(reader) = readers.join_next().await {
        match reader {
            Ok((number, Some(seen))) => read += i32::from(number == seen),
            _ => failed += 1,
        }
    }
    assert_eq!((read, failed), (48, 12));
}

async fn a_write_that_panics_does_not_end_the_database(database: TestDatabase) {
    let db = open(&database).await;
    let panicking = tokio::spawn({
        let db = db.clone();
        async move {
            db_transaction!(&db, |connection| {
                let insert = sqlx::query_scalar("insert into items (id) values (1) returning id");
                let id: i64 = insert.fetch_one(&mut *connection).await?;
                assert_ne!(id, 1, "a panic in the middle of a write");
                Ok(())
            })
        }
    });
    _ = panicking.await;
    insert(&db, 2).await.expect("the next write goes on");
    assert_eq!(ids(&db).await, [2]);
}

async fn a_write_whose_caller_has_gone_takes_effect_or_none(database: TestDatabase) {
    let db = open(&database).await;
    for id in 0..50_i64 {
        _ = tokio::time::timeout(Duration::from_micros(20 * id.unsigned_abs()), insert(&db, id)).await;
    }
    // The next writes are not disturbed by what was abandoned.
    for id in 100..110 {
        insert(&db, id).await.expect("inserted");
    }
    let ids = ids(&db).await;
    assert_eq!(ids.iter().filter(|id| **id >= 100).count(), 10);
    assert!(ids.iter().all(|id| *id < 50 || *id >= 100), "{ids:?}");
}

async fn several_replicas_may_start_at_once(database: TestDatabase) {
    start_at_once(&database, 4).await;
}

/// Who comes a moment too late finds the file in every state there is; so it takes more than one try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_on_a_new_file_wait_for_each_other() {
    for _ in 0..40 {
        start_at_once(&TestDatabase::sqlite(), 2).await;
    }
}

async fn start_at_once(database: &TestDatabase, count: i64) {
    let mut replicas = JoinSet::new();
    for id in 0..count {
        let url = database.parsed_url();
        replicas.spawn(async move {
            let db = Db::open(&url, "test", &MIGRATIONS, &pool()).await.expect("the database opens");
            insert(&db, id).await.expect("inserted");
        });
    }
    replicas.join_all().await;
    assert!(ids(&open(database).await).await.into_iter().eq(0..count));
}

async fn the_tables_of_another_program_are_refused(database: TestDatabase) {
    open(&database).await.close().await;
    let others = migrations("create table others (id bigint primary key)");
    let error = Db::open(&database.parsed_url(), "test", &others, &pool()).await.expect_err("refused");
    assert!(format!("{error:#}").contains("not those of this program"), "{error:#}");
}

#[tokio::test]
async fn a_database_file_is_for_its_owner_alone() {
    let database = TestDatabase::sqlite();
    insert(&open(&database).await, 1).await.expect("inserted");
    for entry in database.folder().read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let args = PoolArgs { database_timeout: Duration::from_millis(200), database_connections: 1 };
    let db = Db::open(&database.parsed_url(), "test", &MIGRATIONS, &args).await.expect("the database opens");
    let slow = db_read!(&db, |connection| sqlx::query("select pg_sleep(30)").execute(connection).await.map(|_| ()));
    let refusal = Refusal::from(slow.expect_err("given up"));
    assert_eq!(refusal.code(), Code::Unavailable);
    // The one connection of the pool is not lost.
    insert(&db, 1).await.expect("inserted");
}

#[tokio::test]
async fn who_listens_is_woken_by_an_announcement_even_after_its_connection_broke() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = open(&database).await;
    let woken = std::sync::Arc::new(tokio::sync::Notify::new());
    let (listener, bell) = (db.clone(), std::sync::Arc::clone(&woken));
    let listening = tokio::spawn(async move { listener.listen("test_channel", || bell.notify_one()).await });
    let execute = async |sql: &'static str| {
        db_read!(&db, |connection| sqlx::query(sql).execute(connection).await.map(|_| ())).expect("executed");
    };
    let heard = async || tokio::time::timeout(Duration::from_secs(10), woken.notified()).await.expect("woken");
    heard().await;
    execute("select pg_notify('test_channel', '')").await;
    heard().await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where query ilike 'listen%' and datname = current_database()";
    execute(cut).await;
    heard().await;
    execute("select pg_notify('test_channel', '')").await;
    heard().await;
    listening.abort();
}

#[tokio::test]
async fn callers_who_give_up_do_not_use_the_pool_up() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let args = PoolArgs { database_connections: 2, ..pool() };
    let db = Db::open(&database.parsed_url(), "test", &MIGRATIONS, &args).await.expect("the database opens");
    for _ in 0..10 {
        let slow = async {
            db_read!(&db, |connection| sqlx::query("select pg_sleep(30)").execute(connection).await.map(|_| ()))
        };
        assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    }
    insert(&db, 1).await.expect("there is a connection left");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_without_its_password() {
    let url = "postgres://me:hunter2@127.0.0.1:1/db".parse().expect("a URL");
    let error = Db::open(&url, "test", &MIGRATIONS, &pool()).await.expect_err("nobody listens");
    let text = format!("{error:#} {url:?}");
    assert!(text.contains("127.0.0.1:1") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_as_it_is() {
    let folder = testing::folder();
    let file = folder.path().join("x.db");
    let content = "no database ".repeat(1000);
    std::fs::write(&file, &content).expect("written");
    let url = format!("sqlite:{}", file.display()).parse().expect("a URL");
    let error = Db::open(&url, "test", &MIGRATIONS, &pool()).await.expect_err("refused");
    assert!(format!("{error:#}").contains("not a database"), "{error:#}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), content);
}
