//! Command-line tools do not migrate the tables of an older server.

use clap::Parser;
use service_kit::{
    auth::rotation::{self, NewKey},
    db::{Db, Migrate, PoolArgs},
    on_each_database,
    testing::TestDatabase,
};
use sqlx::migrate::Migrator;

use crate::support::{issue_service_token, run_program};

on_each_database! {
    a_command_line_tool_does_not_migrate_the_tables_of_an_older_server,
    a_command_line_tool_creates_the_tables_of_a_new_database,
}

/// Opens the database like a server whose migrations end at `last`.
///
/// # Errors
/// If the tables are newer.
async fn open(database: &TestDatabase, last: i64) -> anyhow::Result<Db> {
    #[derive(Parser)]
    struct Pool {
        #[command(flatten)]
        args: PoolArgs,
    }
    let migrations = sqlx::migrate!().iter().filter(|migration| migration.version <= last).cloned().collect();
    let (migrations, pool) = (Migrator::with_migrations(migrations), Pool::parse_from([""]).args);
    Db::open(&database.parsed_url(), "auth", &migrations, Migrate::Always, &pool).await
}

async fn a_command_line_tool_does_not_migrate_the_tables_of_an_older_server(database: TestDatabase) {
    open(&database, 6).await.expect("opened").close().await;
    let path = |name: &str| database.folder().join(name).display().to_string();
    let (key_file, secret_file) = (path("keys.json"), path("refresh.secret"));
    rotation::generate(NewKey::Hs256, key_file.as_ref()).expect("generated");
    for command in [
        &["tokens", "issue-service", "task-service"][..],
        &["tokens", "revoke-service", "task-service"],
        &["users", "set-role", "ann@example.com", "admin"],
        &["users", "unlock", "ann@example.com"],
        &["keys", "adopt", "--key-file", &key_file, "--secret-file", &secret_file],
    ] {
        let (succeeded, output, error) = run_program(&database, command);
        assert!(!succeeded && output.is_empty(), "{command:?}: {output}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("its tables are older than this program"), "{command:?}: {error}");
        open(&database, 6).await.expect("the tables are unchanged").close().await;
    }
    assert!(!database.folder().join("refresh.secret").exists(), "a secret was created");
}

async fn a_command_line_tool_creates_the_tables_of_a_new_database(database: TestDatabase) {
    issue_service_token(&database, "task-service");
    let error = open(&database, 6).await.expect_err("the tables are newer than migration 6");
    assert!(format!("{error:#}").contains("newer"), "{error:#}");
}
