//! Writes that check everything before they write.

use std::sync::LazyLock;

use clap::Parser;
use service_kit::{
    args,
    db::{Db, Error, Migrate, PoolArgs},
    on_each_database,
    testing::TestDatabase,
};
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::task::JoinSet;

on_each_database! {
    checked_writes_all_take_effect,
    failed_check_affects_no_other_write,
    first_statement_that_fails_affects_no_other_write,
    statement_that_cannot_be_executed_affects_no_other_write,
    write_that_fails_after_a_change_has_no_effect,
}

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let sql = SqlStr::from_static("create table items (id bigint primary key)");
    Migrator::with_migrations(vec![Migration::new(1, "items".into(), MigrationType::Simple, sql, false)])
});

async fn open(database: &TestDatabase) -> Db {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        pool: PoolArgs,
    }
    let pool = Cli::parse_from([""]).pool;
    Db::open(&database.parsed_url(), "test", &MIGRATIONS, Migrate::Always, &pool).await.expect("the database opens")
}

/// Checks that `missing` is not an item, and inserts items.
async fn insert(db: Db, missing: i64, ids: Vec<i64>) -> Result<(), Error> {
    db.write_after_checks(move |conn| {
        Box::pin(async move {
            let found: Option<i64> = conn.fetch_optional("select id from items where id = $1", args![missing]).await?;
            if found.is_some() {
                return Err(Error::RowNotFound);
            }
            for id in ids {
                conn.execute("insert into items (id) values ($1)", args![id]).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Inserts item 1, and then the items 10 to 59, one of them together with `insert_badly`. Returns its outcome and the
/// numbers of the other items whose insertion succeeded.
async fn insert_beside(
    db: &Db,
    insert_badly: impl Future<Output = Result<(), Error>>,
) -> (Result<(), Error>, Vec<i64>) {
    insert(db.clone(), 0, vec![1]).await.expect("inserted");
    let mut others = JoinSet::new();
    for id in 10..60 {
        let db = db.clone();
        others.spawn(async move { insert(db, 0, vec![id]).await.ok().map(|()| id) });
    }
    let outcome = insert_badly.await;
    let mut inserted: Vec<_> = others.join_all().await.into_iter().flatten().chain([1]).collect();
    inserted.sort_unstable();
    (outcome, inserted)
}

async fn ids(db: &Db) -> Vec<i64> {
    db.fetch_all("select id from items order by id", args![]).await.expect("the items are read")
}

async fn checked_writes_all_take_effect(database: TestDatabase) {
    let db = open(&database).await;
    let (outcome, inserted) = insert_beside(&db, insert(db.clone(), 0, vec![2, 3])).await;
    outcome.expect("inserted");
    assert_eq!(inserted.len(), 51);
    assert_eq!(ids(&db).await.len(), 53);
}

async fn failed_check_affects_no_other_write(database: TestDatabase) {
    let db = open(&database).await;
    let (outcome, inserted) = insert_beside(&db, insert(db.clone(), 1, vec![2])).await;
    outcome.expect_err("1 exists");
    assert_eq!((inserted.len(), ids(&db).await), (51, inserted));
}

async fn first_statement_that_fails_affects_no_other_write(database: TestDatabase) {
    let db = open(&database).await;
    let (outcome, inserted) = insert_beside(&db, insert(db.clone(), 0, vec![1, 2])).await;
    assert!(outcome.expect_err("1 exists").is_unique_violation());
    assert_eq!((inserted.len(), ids(&db).await), (51, inserted));
}

async fn statement_that_cannot_be_executed_affects_no_other_write(database: TestDatabase) {
    let db = open(&database).await;
    let insert_badly = db.write(|conn| {
        Box::pin(async move {
            conn.execute("insert into items (id) values (2)", args![]).await?;
            conn.execute("insert into missing_table (id) values (1)", args![]).await.map(drop)
        })
    });
    let (outcome, inserted) = insert_beside(&db, insert_badly).await;
    outcome.expect_err("the table does not exist");
    assert_eq!((inserted.len(), ids(&db).await), (51, inserted));
}

async fn write_that_fails_after_a_change_has_no_effect(database: TestDatabase) {
    let db = open(&database).await;
    let (outcome, inserted) = insert_beside(&db, insert(db.clone(), 0, vec![2, 1])).await;
    outcome.expect_err("1 exists");
    // On SQLite, the writes that share its commit are rolled back as well, and fail.
    assert_eq!(ids(&db).await, inserted);
    insert(db.clone(), 2, vec![2]).await.expect("later writes succeed");
    assert!(ids(&db).await.contains(&2));
}
