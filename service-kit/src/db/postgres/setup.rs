//! Inspects a schema before it is used, and migrates its tables.

use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, migrate::Migrator};
use tokio::time::timeout;

use super::session::{SessionSettings, quoted};
use crate::{
    clock::{Clock, MAX_CLOCK_SKEW, Timestamp},
    db::{
        DatabaseUrl, PoolArgs, PostgresUrl,
        migrate::{FoundTables, Migrate, PendingMigration, TableStatus, explain},
    },
};

/// The advisory lock of the process that creates schemas and tables: `taskey` in ASCII.
const SETUP_LOCK: i64 = 0x7461_736b_6579;

/// Makes the server end a session, and release its locks, within a minute after the machine of the client has vanished.
const NOTICE_VANISHED_CLIENT: &str =
    "set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3";

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Returns the URL of the server without a pooler, if it is configured, or else `url`.
///
/// # Errors
/// If the configured URL is that of a file.
pub(in crate::db) fn direct_url<'a>(url: &'a PostgresUrl, args: &'a PoolArgs) -> anyhow::Result<&'a PostgresUrl> {
    match &args.database_direct_url {
        None => Ok(url),
        Some(DatabaseUrl::Postgres(direct)) => Ok(direct),
        Some(DatabaseUrl::Sqlite(_)) => bail!("--database-direct-url must be a postgres:// URL"),
    }
}

/// Creates the schema if it does not exist, and migrates or rejects older tables, depending on `migrate`.
///
/// # Errors
/// If the server cannot be reached or cannot be used, or the schema contains tables of another program or of a newer
/// version. The schema is not changed then.
pub(super) async fn prepare(
    url: &PostgresUrl,
    direct: &PostgresUrl,
    schema: &str,
    migrations: &Migrator,
    migrate: Migrate,
) -> anyhow::Result<()> {
    url.check_files()?;
    direct.check_files()?;
    reject_transaction_pooling(url).await.with_context(|| url.describe())?;
    if migrate != Migrate::Unchecked {
        self::migrate(direct, schema, migrations, migrate).await?;
    }
    // Checks the settings of all later sessions once.
    let settings = SessionSettings::new(schema, CONNECT_LIMIT);
    let session = timeout(CONNECT_LIMIT, settings.connect(url.options())).await;
    let session = session.context("it did not respond in time").and_then(|session| Ok(session?));
    session.with_context(|| url.describe())?.0.close().await?;
    Ok(())
}

/// Creates the schema if it does not exist, and migrates or rejects older tables, depending on `migrate`. Returns the
/// migrations that were applied.
///
/// # Errors
/// As [`prepare`].
pub(in crate::db) async fn migrate(
    direct: &PostgresUrl,
    schema: &str,
    migrations: &Migrator,
    migrate: Migrate,
) -> anyhow::Result<Vec<PendingMigration>> {
    set_up(direct, schema, migrations, migrate).await.with_context(|| direct.describe())
}

/// Compares the tables with the migrations of this program, and changes nothing.
///
/// # Errors
/// If the server does not respond, or the tables are not those of this program.
pub(in crate::db) async fn inspect(
    url: &PostgresUrl,
    schema: &str,
    migrations: &Migrator,
) -> anyhow::Result<TableStatus> {
    let inspected = async {
        url.check_files()?;
        let mut connection = connect(url).await?;
        let tables = compare_tables(&mut connection, schema, migrations).await?;
        connection.close().await?;
        anyhow::Ok(tables)
    };
    inspected.await.with_context(|| url.describe())
}

/// Looks for indexes that the server does not use because their creation failed.
pub(in crate::db) async fn check_integrity(url: &PostgresUrl, schema: &str) -> anyhow::Result<String> {
    const INVALID: &str = "
        select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
        join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and not i.indisvalid";
    let mut connection = connect(url).await?;
    let invalid: Vec<String> = sqlx::query_scalar(INVALID).bind(schema).fetch_all(&mut connection).await?;
    let checksums: String =
        sqlx::query_scalar("select current_setting('data_checksums')").fetch_one(&mut connection).await?;
    connection.close().await?;
    anyhow::ensure!(invalid.is_empty(), "invalid indexes: {}", invalid.join(", "));
    Ok(format!("all indexes are valid; data checksums are {checksums}"))
}

/// Compares the clock of the server with that of this machine.
pub(in crate::db) async fn check_clock(url: &PostgresUrl, clock: &Clock) -> anyhow::Result<String> {
    const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let mut connection = connect(url).await?;
    let before = clock.now();
    let server: i64 = sqlx::query_scalar(NOW).fetch_one(&mut connection).await?;
    let after = clock.now();
    connection.close().await?;
    let difference = Timestamp::from_micros(server).since(after).max(before.since(Timestamp::from_micros(server)));
    let text = format!("the clock of the database server differs by {:.1} s", difference.as_secs_f64());
    anyhow::ensure!(difference <= MAX_CLOCK_SKEW, "{text}; at most {} s are tolerated", MAX_CLOCK_SKEW.as_secs());
    Ok(text)
}

async fn connect(url: &PostgresUrl) -> anyhow::Result<PgConnection> {
    let connecting = timeout(CONNECT_LIMIT, PgConnection::connect_with(url.options())).await;
    let mut connection = connecting.context("it did not respond in time")??;
    connection.execute(sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0")).await?;
    Ok(connection)
}

/// Fails if a pooler assigns server connections per transaction, which would lose the settings of sessions. With such a
/// pooler, a transaction of the second client gets the server connection that the first client has just used, or the
/// first client gets a different one for its next statement.
async fn reject_transaction_pooling(url: &PostgresUrl) -> anyhow::Result<()> {
    let (mut first, mut second) = (connect(url).await?, connect(url).await?);
    let before = backend(&mut first).await?;
    let concurrent = match second.execute(sqlx::raw_sql("begin")).await {
        Ok(_) => Some(backend(&mut second).await?),
        // A pooler that assigns connections per statement rejects transactions.
        Err(_) => None,
    };
    let after = backend(&mut first).await?;
    if concurrent.is_none_or(|concurrent| concurrent == before) || before != after {
        bail!(
            "a pooler in front of it pools transactions, which loses the settings of sessions; use \
             pool_mode = session, or the URL of the server itself"
        );
    }
    first.close().await?;
    Ok(second.close().await?)
}

/// Returns the server process of a connection. The statement is not prepared, because a pooler may not support prepared
/// statements.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?.try_get(0)
}

/// Migrates on the session that has the lock, so that the end of the session, for any reason, ends both.
async fn set_up(
    url: &PostgresUrl,
    schema: &str,
    migrations: &Migrator,
    migrate: Migrate,
) -> anyhow::Result<Vec<PendingMigration>> {
    let mut connection = connect(url).await?;
    check_encoding(&mut connection).await?;
    connection.execute(sqlx::raw_sql(NOTICE_VANISHED_CLIENT)).await?;
    let has_lock: bool =
        sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(SETUP_LOCK).fetch_one(&mut connection).await?;
    if !has_lock {
        tracing::info!(schema, "waiting for another process to set up the tables");
        sqlx::query("select pg_advisory_lock($1)").bind(SETUP_LOCK).execute(&mut connection).await?;
    }
    let tables = compare_tables(&mut connection, schema, migrations).await?;
    migrate.check(&tables)?;
    if !tables.pending.is_empty() {
        create_schema(&mut connection, schema).await?;
        SessionSettings::without_limits(schema).apply(&mut connection).await?;
        migrations.run_direct(None, &mut connection, false).await.map_err(explain)?;
    }
    // Closing the connection releases the lock.
    connection.close().await?;
    Ok(tables.pending)
}

/// Checks the encoding, because texts may contain any character and are compared by character.
async fn check_encoding(connection: &mut PgConnection) -> anyhow::Result<()> {
    let encoding: String =
        sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(connection).await?;
    anyhow::ensure!(encoding == "UTF8", "its encoding is {encoding}; create a database with encoding 'UTF8'");
    Ok(())
}

async fn create_schema(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let exists = "select exists (select from pg_namespace where nspname = $1)";
    // Without the privilege to create schemas, `create schema if not exists` would fail on one that exists.
    if !sqlx::query_scalar::<_, bool>(exists).bind(schema).fetch_one(&mut *connection).await? {
        let create = AssertSqlSafe(format!("create schema {}", quoted(schema)));
        sqlx::query(create).execute(connection).await?;
    }
    Ok(())
}

/// Compares the tables of a schema, without those of extensions, with the migrations of this program.
async fn compare_tables(
    connection: &mut PgConnection,
    schema: &str,
    migrations: &Migrator,
) -> anyhow::Result<TableStatus> {
    const TABLES: &str = "
        select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') and not exists (
            select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')";
    let tables: Vec<String> = sqlx::query_scalar(TABLES).bind(schema).fetch_all(&mut *connection).await?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let applied = if has("_sqlx_migrations") {
        let select = format!("select version, checksum from {}._sqlx_migrations order by version", quoted(schema));
        Some(sqlx::query_as(AssertSqlSafe(select)).fetch_all(&mut *connection).await?)
    } else {
        None
    };
    let compatible = if has("compatible_migrations") {
        let select = format!("select version from {}.compatible_migrations", quoted(schema));
        sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(connection).await?
    } else {
        Vec::new()
    };
    let found = FoundTables { has_tables: !tables.is_empty(), applied, compatible };
    found
        .compare(migrations)
        .with_context(|| format!("the schema {schema:?} was not changed; choose another with --schema"))
}
