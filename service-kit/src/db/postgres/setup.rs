//! Looks at a schema before it is used, and brings its tables up to date.

use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, migrate::Migrator};
use tokio::time::timeout;

use super::session::{SessionSettings, quoted};
use crate::db::{
    DatabaseUrl, PoolArgs, PostgresUrl,
    migrate::{Contents, Migrate, contents, explain},
};

/// Only one process at a time creates schemas and tables. The number has no meaning.
const SETUP_LOCK: i64 = 0x7461_736b_6579;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Returns where the server is reached without a pooler: as the settings say, else where everything else goes.
///
/// # Errors
/// If the settings name a file.
pub(super) fn direct_url<'a>(url: &'a PostgresUrl, args: &'a PoolArgs) -> anyhow::Result<&'a PostgresUrl> {
    match &args.database_direct_url {
        None => Ok(url),
        Some(DatabaseUrl::Postgres(direct)) => Ok(direct),
        Some(DatabaseUrl::Sqlite(_)) => bail!("--database-direct-url must be a postgres:// URL"),
    }
}

/// Creates the schema, if it does not exist, and brings its tables up to date if `migrate` says so.
///
/// # Errors
/// If the server cannot be reached or cannot be used, or the schema contains tables of another program or of a newer
/// version. It is left as it was.
pub(super) async fn prepare(
    url: &PostgresUrl,
    direct: &PostgresUrl,
    schema: &str,
    migrations: &Migrator,
    migrate: Migrate,
) -> anyhow::Result<()> {
    refuse_transaction_pooling(url).await.with_context(|| url.describe())?;
    set_up(direct, schema, migrations, migrate).await.with_context(|| direct.describe())?;
    // What all sessions will rely on is tried once.
    let settings = SessionSettings::new(schema, CONNECT_LIMIT);
    let session = timeout(CONNECT_LIMIT, settings.connect(url.options())).await;
    let session = session.context("it does not answer").and_then(|session| Ok(session?));
    session.with_context(|| url.describe())?.0.close().await?;
    Ok(())
}

/// Checks whether the server answers and the tables are those of this program, and changes nothing.
pub(in crate::db) async fn inspect(url: &PostgresUrl, schema: &str, migrations: &Migrator) -> anyhow::Result<()> {
    let inspected = async {
        let mut connection = connect(url).await?;
        look_into(&mut connection, schema, migrations).await?;
        anyhow::Ok(connection.close().await?)
    };
    inspected.await.with_context(|| url.describe())
}

async fn connect(url: &PostgresUrl) -> anyhow::Result<PgConnection> {
    let connecting = timeout(CONNECT_LIMIT, PgConnection::connect_with(url.options())).await;
    let mut connection = connecting.context("it does not answer")??;
    connection.execute(sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0")).await?;
    Ok(connection)
}

/// Fails if a pooler gives each transaction another connection to the server, which would drop the settings of a session.
/// Then a transaction of one client gets the connection that another client has just used, or the other client gets
/// another one for its next statement.
async fn refuse_transaction_pooling(url: &PostgresUrl) -> anyhow::Result<()> {
    let (mut first, mut second) = (connect(url).await?, connect(url).await?);
    let before = backend(&mut first).await?;
    let beside = match second.execute(sqlx::raw_sql("begin")).await {
        Ok(_) => Some(backend(&mut second).await?),
        // A pooler of single statements refuses transactions.
        Err(_) => None,
    };
    let after = backend(&mut first).await?;
    if beside.is_none_or(|beside| beside == before) || before != after {
        bail!(
            "a pooler in front of it pools transactions, which loses the settings of sessions; use pool_mode = session, \
             or name the server itself"
        );
    }
    first.close().await?;
    Ok(second.close().await?)
}

/// Returns the process of the server that serves a connection. The statement is not prepared, since poolers may not know
/// prepared statements.
async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?.try_get(0)
}

async fn set_up(url: &PostgresUrl, schema: &str, migrations: &Migrator, migrate: Migrate) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    refuse_encoding(&mut connection).await?;
    let is_free: bool =
        sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(SETUP_LOCK).fetch_one(&mut connection).await?;
    if !is_free {
        tracing::info!(schema, "waiting for another process to set up the tables");
        sqlx::query("select pg_advisory_lock($1)").bind(SETUP_LOCK).execute(&mut connection).await?;
    }
    let contents = look_into(&mut connection, schema, migrations).await?;
    migrate.check(contents)?;
    if contents != Contents::Current {
        create_schema(&mut connection, schema).await?;
        let settings = SessionSettings::without_limits(schema);
        let (mut migrating, _) = settings.connect(url.options()).await?;
        migrations.run_direct(None, &mut migrating, false).await.map_err(explain)?;
        migrating.close().await?;
    }
    // The lock ends with the connection.
    Ok(connection.close().await?)
}

/// Texts are compared by character, and may contain any.
async fn refuse_encoding(connection: &mut PgConnection) -> anyhow::Result<()> {
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

/// Finds out whose tables are in a schema. What an extension has put there does not count.
async fn look_into(connection: &mut PgConnection, schema: &str, migrations: &Migrator) -> anyhow::Result<Contents> {
    const TABLES: &str = "
        select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') and not exists (
            select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')";
    let tables: Vec<String> = sqlx::query_scalar(TABLES).bind(schema).fetch_all(&mut *connection).await?;
    let applied = if tables.iter().any(|table| table == "_sqlx_migrations") {
        let select = format!("select version, checksum from {}._sqlx_migrations order by version", quoted(schema));
        Some(sqlx::query_as(AssertSqlSafe(select)).fetch_all(connection).await?)
    } else {
        None
    };
    contents(!tables.is_empty(), applied, migrations)
        .with_context(|| format!("the schema {schema:?} is left as it was; another can be named with --schema"))
}
