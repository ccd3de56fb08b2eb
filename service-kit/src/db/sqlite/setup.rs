//! Inspects a file before it is used, and migrates its tables.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, SqliteConnection,
    error::DatabaseError,
    migrate::{Migration, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::{Instant, sleep};

use crate::db::migrate::{FoundTables, Migrate, PendingMigration, TableStatus, explain};

/// SQLite's error code for a file that another connection has locked (`SQLITE_BUSY`).
const BUSY: &str = "5";

/// How long to wait before a retry on a locked file.
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(10);

/// How long [`inspect`] waits for a lock.
const INSPECT_LIMIT: Duration = Duration::from_secs(2);

/// Creates the file if it does not exist, and migrates or rejects older tables, depending on `migrate`. Returns the
/// migrations that were applied.
///
/// # Errors
/// If the file cannot be read, is no database, or contains tables of another program or of a newer version. It is not
/// changed then.
pub(in crate::db) async fn prepare(
    path: &Path,
    migrations: &Migrator,
    migrate: Migrate,
    limit: Duration,
) -> anyhow::Result<Vec<PendingMigration>> {
    if migrate == Migrate::Unchecked {
        anyhow::ensure!(path.exists(), "there is no database {}", path.display());
        return Ok(Vec::new());
    }
    let prepared = async {
        // A file that is rejected does not change.
        migrate.check(&inspect_file(path, migrations, limit).await?)?;
        create_private(path)?;
        set_up(path, migrations, migrate, limit).await
    };
    prepared.await.with_context(|| format!("the database {}", path.display()))
}

/// Checks that the tables are those of this program, and changes nothing. The file need not exist. The duration does not
/// depend on the size of the file.
pub(in crate::db) async fn inspect(path: &Path, migrations: &Migrator) -> anyhow::Result<TableStatus> {
    let tables = inspect_file(path, migrations, INSPECT_LIMIT).await;
    tables.with_context(|| format!("the database {}", path.display()))
}

/// Reads the whole file and checks it for damage. Changes nothing.
pub(in crate::db) async fn check_integrity(path: &Path) -> anyhow::Result<String> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok("there is no file".to_owned());
    }
    let mut connection = connect_read_only(path, INSPECT_LIMIT).await?;
    let found: Vec<String> = sqlx::query_scalar("pragma integrity_check(10)").fetch_all(&mut connection).await?;
    connection.close().await?;
    anyhow::ensure!(found == ["ok"], "the file is damaged: {}", found.join("; "));
    Ok("the file is not damaged".to_owned())
}

/// Compares the tables of a file with the migrations of this program.
async fn inspect_file(path: &Path, migrations: &Migrator, limit: Duration) -> anyhow::Result<TableStatus> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return FoundTables { has_tables: false, applied: None, compatible: Vec::new() }.compare(migrations);
    }
    let mut connection = connect_read_only(path, limit).await?;
    let tables = find_tables(&mut connection).await?;
    connection.close().await?;
    tables.compare(migrations).context("it was not changed")
}

/// Finds out which tables a file contains.
async fn find_tables(connection: &mut SqliteConnection) -> anyhow::Result<FoundTables> {
    const TABLES: &str =
        "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'";
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *connection).await?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let applied = if has("_sqlx_migrations") {
        let applied = "select version, checksum from _sqlx_migrations order by version";
        Some(sqlx::query_as(applied).fetch_all(&mut *connection).await?)
    } else {
        None
    };
    let compatible = if has("compatible_migrations") {
        sqlx::query_scalar("select version from compatible_migrations").fetch_all(connection).await?
    } else {
        Vec::new()
    };
    Ok(FoundTables { has_tables: !tables.is_empty(), applied, compatible })
}

/// Opens a file without creating others. To read a file in WAL mode, SQLite would create two more next to it, unless the
/// file is opened as immutable, which it is if it has no log.
async fn connect_read_only(path: &Path, limit: Duration) -> anyhow::Result<SqliteConnection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let is_unused = uses_write_ahead_log(path)? && !Path::new(&log).exists();
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(limit).read_only(true).immutable(is_unused);
    Ok(connect(&options, limit).await?)
}

/// Reads from the header of a file whether it uses a write-ahead log (SQLite file format, section 1.3.3).
fn uses_write_ahead_log(path: &Path) -> io::Result<bool> {
    let mut header = [0; 20];
    match File::open(path)?.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome.map(|()| header[18..] == [2, 2]),
    }
}

/// Creates the file with mode 0600, because it contains password hashes. SQLite would use the default mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The delimiters of SQL in a migration that is executed on SQLite, and is a comment elsewhere.
const SQLITE_ONLY: [&str; 2] = ["/* sqlite: ", " */"];

/// The delimiters of SQL in a migration that is not executed on SQLite.
const NOT_SQLITE: [&str; 2] = ["/* elsewhere: */", "/* :elsewhere */"];

/// Replaces each text between two delimiters, including the delimiters, with the result of `change`.
fn replace_between([start, end]: [&str; 2], sql: &str, change: impl Fn(&str) -> &str) -> String {
    let mut parts = sql.split(start);
    let before = parts.next().unwrap_or_default().to_owned();
    let parts = parts.map(|part| part.split_once(end).unwrap_or((part, "")));
    parts.fold(before, |sql, (inner, after)| sql + change(inner) + after)
}

/// Returns the migrations with their SQL for SQLite. The checksums are those of the files, so that they do not depend
/// on the engine.
fn for_sqlite(migrations: &Migrator) -> Migrator {
    let adapt = |sql: &str| replace_between(NOT_SQLITE, &replace_between(SQLITE_ONLY, sql, |inner| inner), |_| "");
    let migrations = migrations.iter().map(|migration| Migration {
        sql: AssertSqlSafe(adapt(migration.sql.as_str())).into_sql_str(),
        ..migration.clone()
    });
    Migrator::with_migrations(migrations.collect())
}

async fn set_up(
    path: &Path,
    migrations: &Migrator,
    migrate: Migrate,
    limit: Duration,
) -> anyhow::Result<Vec<PendingMigration>> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(limit);
    // The journal mode is stored in the file.
    let mut connection = connect(&options.journal_mode(SqliteJournalMode::Wal), limit).await?;
    // In one transaction, so that of two processes that start at the same time, the second waits for the first.
    let mut transaction = connection.begin_with("begin immediate").await?;
    let tables = find_tables(&mut transaction).await?.compare(migrations)?;
    migrate.check(&tables)?;
    if !tables.pending.is_empty() {
        for_sqlite(migrations).run_direct(None, &mut *transaction, false).await.map_err(explain)?;
    }
    transaction.commit().await?;
    connection.close().await?;
    Ok(tables.pending)
}

/// Connects. Retries while the file is locked, because SQLite ignores the busy timeout when it changes the journal
/// mode: of two processes that start on a new file, one would fail.
async fn connect(options: &SqliteConnectOptions, limit: Duration) -> sqlx::Result<SqliteConnection> {
    let start = Instant::now();
    loop {
        match options.connect().await {
            Err(error) if is_locked(&error) && start.elapsed() < limit => sleep(BUSY_RETRY_DELAY).await,
            outcome => return outcome,
        }
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(DatabaseError::code).as_deref() == Some(BUSY)
}
