//! Which tables a program accepts, and which it migrates.

use clap::Parser;
use service_kit::{
    args,
    db::{Db, Migrate, PoolArgs},
    on_each_database,
    testing::TestDatabase,
};
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

on_each_database! {
    tables_with_compatible_newer_migrations_are_accepted,
    tables_with_other_newer_migrations_are_refused,
    newer_tables_that_lack_a_migration_are_refused,
    missing_and_older_tables_are_refused_if_the_program_must_not_migrate,
    older_tables_are_accepted_if_they_are_not_compared,
    inspection_lists_the_missing_migrations,
}

const FIRST: (i64, &str, &str) = (1, "items", "create table items (id bigint primary key)");
const COMPATIBLE: (i64, &str, &str) = (
    2,
    "names",
    "alter table items add column name text;
     create table compatible_migrations (version bigint primary key);
     insert into compatible_migrations (version) values (2)",
);
const OTHER: (i64, &str, &str) = (3, "titles", "alter table items rename column name to title");
const UNRELATED: (i64, &str, &str) = (1, "items", "create table others (id bigint primary key)");

fn migrations(list: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = list.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.collect())
}

async fn open(database: &TestDatabase, migrations: &Migrator, migrate: Migrate) -> anyhow::Result<Db> {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        pool: PoolArgs,
    }
    Db::open(&database.parsed_url(), "test", migrations, migrate, &Cli::parse_from([""]).pool).await
}

async fn migrate(database: &TestDatabase, migrations: &Migrator) {
    open(database, migrations, Migrate::Always).await.expect("migrated").close().await;
}

async fn assert_refused(database: &TestDatabase, migrations: &Migrator, migrate: Migrate, expected: &str) {
    let error = format!("{:#}", open(database, migrations, migrate).await.expect_err("refused"));
    assert!(error.contains(expected), "{error}");
}

async fn tables_with_compatible_newer_migrations_are_accepted(database: TestDatabase) {
    migrate(&database, &migrations(&[FIRST, COMPATIBLE])).await;
    for mode in [Migrate::Always, Migrate::Never, Migrate::IfEmpty] {
        let db = open(&database, &migrations(&[FIRST]), mode).await.expect("accepted");
        db.execute("delete from items", args![]).await.expect("the tables are usable");
        db.close().await;
    }
    let tables = Db::inspect(&database.parsed_url(), "test", &migrations(&[FIRST])).await.expect("accepted");
    assert_eq!((tables.newer, tables.pending.len()), (Some(2), 0));
}

async fn tables_with_other_newer_migrations_are_refused(database: TestDatabase) {
    migrate(&database, &migrations(&[FIRST, COMPATIBLE, OTHER])).await;
    let older = migrations(&[FIRST]);
    for mode in [Migrate::Always, Migrate::Never, Migrate::IfEmpty] {
        assert_refused(&database, &older, mode, "its tables are newer (version 3) than this program").await;
    }
}

async fn newer_tables_that_lack_a_migration_are_refused(database: TestDatabase) {
    migrate(&database, &migrations(&[FIRST, COMPATIBLE])).await;
    // A program of another branch.
    let other = migrations(&[FIRST, OTHER]);
    assert_refused(&database, &other, Migrate::Always, "lack its migration 0003 titles").await;
}

async fn missing_and_older_tables_are_refused_if_the_program_must_not_migrate(database: TestDatabase) {
    let (old, new) = (migrations(&[FIRST]), migrations(&[FIRST, COMPATIBLE]));
    assert_refused(&database, &new, Migrate::Never, "it has no tables").await;
    migrate(&database, &old).await;
    assert_refused(&database, &new, Migrate::Never, "its tables are older than this program").await;
    migrate(&database, &new).await;
    open(&database, &new, Migrate::Never).await.expect("accepted").close().await;
}

async fn older_tables_are_accepted_if_they_are_not_compared(database: TestDatabase) {
    migrate(&database, &migrations(&[FIRST])).await;
    for migrations in [migrations(&[FIRST, COMPATIBLE]), migrations(&[UNRELATED])] {
        let db = open(&database, &migrations, Migrate::Unchecked).await.expect("accepted");
        db.execute("delete from items", args![]).await.expect("the tables did not change");
        db.close().await;
    }
}

async fn inspection_lists_the_missing_migrations(database: TestDatabase) {
    let all = migrations(&[FIRST, COMPATIBLE]);
    let pending = async || {
        let tables = Db::inspect(&database.parsed_url(), "test", &all).await.expect("inspected");
        tables.pending.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(pending().await, ["0001 items", "0002 names"]);
    migrate(&database, &migrations(&[FIRST])).await;
    assert_eq!(pending().await, ["0002 names"]);
    migrate(&database, &all).await;
    assert!(pending().await.is_empty());
}

#[tokio::test]
async fn missing_file_is_not_created_if_tables_are_not_compared_or_not_migrated() {
    let database = TestDatabase::sqlite();
    for mode in [Migrate::Unchecked, Migrate::Never] {
        open(&database, &migrations(&[FIRST]), mode).await.expect_err("refused");
    }
    assert_eq!(std::fs::read_dir(database.folder()).expect("a folder").count(), 0);
}
