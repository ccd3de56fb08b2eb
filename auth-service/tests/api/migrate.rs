//! The command `migrate`, and servers that must not migrate.

use std::process::{Command, Stdio};

use service_kit::{on_each_database, testing::TestDatabase};
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    migrations::open,
    support::{Server, run_program},
};

on_each_database! {
    migrate_applies_the_missing_migrations,
    plan_and_check_change_nothing,
    a_server_that_must_not_migrate_starts_only_with_current_tables,
}

/// The last migration before the command existed.
const OLD: i64 = 10;

async fn migrate_applies_the_missing_migrations(database: TestDatabase) {
    open(&database, OLD).await.close().await;
    let (succeeded, output, error) = run_program(&database, &["migrate"]);
    assert!(succeeded && output.starts_with("auth: applied 0011 compatible migrations\n"), "{output}{error}");
    let (succeeded, output, _) = run_program(&database, &["migrate"]);
    assert!(succeeded && output == "auth: the tables are up to date\n", "{output}");
}

async fn plan_and_check_change_nothing(database: TestDatabase) {
    open(&database, OLD).await.close().await;
    for _ in 0..2 {
        let (succeeded, output, _) = run_program(&database, &["migrate", "--plan"]);
        assert!(succeeded && output.starts_with("auth: 0011 compatible migrations\n"), "{output}");
        let (succeeded, _, error) = run_program(&database, &["migrate", "--check"]);
        assert!(!succeeded && error.lines().count() == 1, "{error}");
        assert!(error.contains("migrations are missing: auth: 0011 compatible migrations"), "{error}");
    }
    run_program(&database, &["migrate"]);
    let (succeeded, output, _) = run_program(&database, &["migrate", "--check"]);
    assert!(succeeded && output.is_empty(), "{output}");
    let (_, output, _) = run_program(&database, &["migrate", "--plan"]);
    assert_eq!(output, "auth: the tables are up to date\n");
}

async fn a_server_that_must_not_migrate_starts_only_with_current_tables(database: TestDatabase) {
    open(&database, OLD).await.close().await;
    let keys = database.key_file().display().to_string();
    let arguments = ["--migrate", "check", "--listen", "127.0.0.1:0", "--key-file", &keys];
    let (succeeded, _, error) = run_program(&database, &arguments);
    assert!(!succeeded && error.contains("its tables are older than this program"), "{error}");
    run_program(&database, &["migrate"]);
    let server = Server::start_with(database, &["--migrate", "check"]).await;
    server.sign_up_and_login("ann@example.com").await;
    server.stop().await;
}

/// Waits until another session has an advisory lock.
async fn wait_for_lock(connection: &mut PgConnection) {
    const HAS_LOCK: &str = "
        select exists (select from pg_locks where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database()))";
    while !sqlx::query_scalar::<_, bool>(HAS_LOCK).fetch_one(&mut *connection).await.expect("read") {}
}

#[tokio::test]
async fn a_migration_that_is_killed_does_not_block_the_next_one() {
    let Some(database) = TestDatabase::postgres().await else { return };
    open(&database, OLD).await.close().await;
    let mut connection = PgConnection::connect(database.url()).await.expect("connected");
    let lock = "begin; lock table auth._sqlx_migrations in access exclusive mode";
    connection.execute(sqlx::raw_sql(lock)).await.expect("locked");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-service"));
    command.arg("migrate").env("TASKEY_DATABASE_URL", database.url()).stdout(Stdio::null());
    let mut killed = command.spawn().expect("the program runs");
    wait_for_lock(&mut connection).await;
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    connection.execute("rollback").await.expect("unlocked");
    let (succeeded, output, error) = run_program(&database, &["migrate"]);
    assert!(succeeded && output.starts_with("auth: applied 0011"), "{output}{error}");
}
