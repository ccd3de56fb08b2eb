//! The write-ahead log of SQLite under long reads.

use std::sync::LazyLock;

use clap::Parser;
use service_kit::{
    args,
    db::{Db, Migrate, PoolArgs},
    testing::TestDatabase,
};
use sqlx::{
    ConnectOptions, Connection, Executor, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let sql = SqlStr::from_static("create table items (id bigint primary key, content text not null)");
    Migrator::with_migrations(vec![Migration::new(1, "items".into(), MigrationType::Simple, sql, false)])
});

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    pool: PoolArgs,
}

/// Reads one after the other, for as long as it is awaited.
async fn read_forever(db: &Db) {
    const READ: &str = "
        with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 200000)
        select count(*) from numbers, (select id from items limit 1)";
    loop {
        db.fetch_all::<i64>(READ, args![]).await.expect("the read ends in time");
    }
}

const WRITE: &str =
    "insert into items (id, content) values (1, $1) on conflict (id) do update set content = excluded.content";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_do_not_fail_while_a_backup_reads() {
    let database = TestDatabase::sqlite();
    let pool = Cli::parse_from([""]).pool;
    let db = Db::open(&database.parsed_url(), "test", &MIGRATIONS, Migrate::Always, &pool).await.expect("it opens");
    let options = SqliteConnectOptions::new().filename(database.folder().join("test.db"));
    let mut backup = options.connect().await.expect("opened");
    backup.execute("begin; select count(*) from items").await.expect("read");
    // More than the size at which the log is truncated.
    for _ in 0..150 {
        db.execute(WRITE, args!["x".repeat(1 << 20)]).await.expect("a write");
    }
    backup.close().await.expect("closed");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_reads_do_not_let_the_log_grow() {
    let database = TestDatabase::sqlite();
    let pool = Cli::parse_from([""]).pool;
    let db = Db::open(&database.parsed_url(), "test", &MIGRATIONS, Migrate::Always, &pool).await.expect("it opens");
    let (mut largest, log) = (0, database.folder().join("test.db-wal"));
    let writes = async {
        for _ in 0..150 {
            db.execute(WRITE, args!["x".repeat(1 << 20)]).await.expect("a write");
            largest = largest.max(std::fs::metadata(&log).map_or(0, |file| file.len()));
        }
    };
    tokio::select! {
        () = writes => {}
        () = async { tokio::join!(read_forever(&db), read_forever(&db), read_forever(&db)); } => {}
    }
    assert!(largest < 80 << 20, "{largest} bytes");
    db.close().await;
}
