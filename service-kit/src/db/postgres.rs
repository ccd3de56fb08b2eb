//! `PostgreSQL`: a pool of connections to one schema.

use std::time::Duration;

use anyhow::Context;
use sqlx::{
    Connection, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use super::{
    Error, compare, explain,
    pool::{Held, Pool},
};
use crate::{config::PoolArgs, random};

/// Only one process at a time makes schemas and tables. The number has no meaning.
const SET_UP_LOCK: i64 = 0x7461_736b_6579;

/// A pool of connections, each call of which is limited in time.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: Pool<PgConnection>,
    limit: Duration,
}

impl Postgres {
    pub(super) async fn open(
        options: &PgConnectOptions,
        schema: &'static str,
        migrations: &Migrator,
        args: &PoolArgs,
    ) -> anyhow::Result<Self> {
        let limit = args.database_timeout;
        let options = options.clone().application_name("taskey").options([
            ("search_path", schema.to_owned()),
            // A process that stopped in the middle must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", limit.as_millis().to_string()),
            ("statement_timeout", limit.as_millis().to_string()),
            // What one owner has is read by an index in the order of the table. To gather its pages in a bitmap first
            // takes longer: for 10 000 rows 18 ms instead of 14.
            ("enable_bitmapscan", "off".to_owned()),
        ]);
        let place = || format!("the database {}:{}", options.get_host(), options.get_port());
        set_up(&options, schema, migrations).await.with_context(place)?;
        let pool = Pool::new(options, args.database_connections, limit);
        Ok(Self { pool, limit })
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// If none becomes free in time.
    pub async fn connection(&self) -> Result<Held<PgConnection>, Error> {
        self.pool.take().await
    }

    /// How long a call may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Listens on a connection of its own, and makes a new one whenever it breaks.
    pub(super) async fn listen(&self, channel: &'static str, mut woken: impl FnMut()) {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.limit)
            .connect_lazy_with(self.pool.options().clone());
        loop {
            let ended = listen_once(&pool, channel, &mut woken).await;
            tracing::debug!(channel, error = ?ended.err(), "listening anew");
            tokio::time::sleep(random::jitter(RELISTEN)).await;
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// How long after a failure listening is tried again.
const RELISTEN: Duration = Duration::from_millis(500);

/// After such a silence the connection is made anew: a server that has silently gone says nothing either.
const SILENCE: Duration = Duration::from_secs(30);

/// Listens until the connection breaks or nothing has been heard for long.
async fn listen_once(pool: &sqlx::PgPool, channel: &str, woken: &mut impl FnMut()) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Something may have been announced before.
    woken();
    while let Ok(heard) = timeout(SILENCE, listener.try_recv()).await {
        woken();
        if heard?.is_none() {
            break;
        }
    }
    Ok(())
}

/// How long a connection for setting up may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Looks whether the server answers and the tables are ours, and changes nothing.
pub(super) async fn inspect(
    options: &PgConnectOptions,
    schema: &'static str,
    migrations: &Migrator,
) -> anyhow::Result<()> {
    let inspected = async {
        let mut connection = connect(&options.clone().options([("search_path", schema)])).await?;
        let migrated = "select exists (
            select from information_schema.tables where table_schema = $1 and table_name = '_sqlx_migrations')";
        if sqlx::query_scalar(migrated).bind(schema).fetch_one(&mut connection).await? {
            let applied = "select version, checksum from _sqlx_migrations";
            compare(sqlx::query_as(applied).fetch_all(&mut connection).await?, migrations)?;
        }
        anyhow::Ok(connection.close().await?)
    };
    inspected.await.with_context(|| format!("the database {}:{}", options.get_host(), options.get_port()))
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connecting = timeout(CONNECT_LIMIT, PgConnection::connect_with(options)).await;
    Ok(connecting.context("it does not answer")??)
}

/// Makes the schema, if it is not there, and brings its tables up to date. Several replicas may start at once.
async fn set_up(options: &PgConnectOptions, schema: &str, migrations: &Migrator) -> anyhow::Result<()> {
    // The limits of ordinary calls do not hold here: a migration may take its time.
    let patient = options.clone().options([("statement_timeout", "0")]);
    let mut connection = connect(&patient).await?;
    let free: bool =
        sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(SET_UP_LOCK).fetch_one(&mut connection).await?;
    if !free {
        tracing::info!(schema, "waiting for another process to set up the tables");
        sqlx::query("select pg_advisory_lock($1)").bind(SET_UP_LOCK).execute(&mut connection).await?;
    }
    let exists: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
        .bind(schema)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        let statement = sqlx::AssertSqlSafe(format!("create schema \"{schema}\""));
        sqlx::query(statement).execute(&mut connection).await?;
    }
    migrations.run_direct(None, &mut connection, false).await.map_err(explain)?;
    // The lock ends with the connection.
    connection.close().await?;
    Ok(())
}
