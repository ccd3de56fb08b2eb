//! `PostgreSQL`: a pool of connections to one schema.

use std::{future::Future, time::Duration};

use anyhow::Context;
use sqlx::{
    Connection, PgConnection, PgPool, Postgres as Engine,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::{Error, explain};
use crate::config::PoolArgs;

/// Only one process at a time makes schemas and tables. The number has no meaning.
const SET_UP_LOCK: i64 = 0x7461_736b_6579;

/// A pool of connections, each call of which is limited in time.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: PgPool,
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
        ]);
        let place = || format!("the database {}:{}", options.get_host(), options.get_port());
        set_up(&options, schema, migrations).await.with_context(place)?;
        let pool = PgPoolOptions::new()
            .max_connections(args.database_connections)
            .acquire_timeout(limit)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Ok(Self { pool, limit })
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// If none becomes free in time.
    pub async fn connection(&self) -> Result<PoolConnection<Engine>, Error> {
        Ok(self.pool.acquire().await?)
    }

    /// Runs a call within the time limit.
    ///
    /// # Errors
    /// As the call, and [`Error::Timeout`].
    pub async fn within_limit<T>(&self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        timeout(self.limit, call).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
    }

    /// Gives a connection back after a call. One that is in an unknown state, or leads to a server that has gone, is
    /// closed at once: waiting for a frozen server would never end.
    pub fn give_back<T>(connection: PoolConnection<Engine>, outcome: &Result<T, Error>) {
        let unusable = match outcome {
            Err(Error::Timeout | Error::Sqlx(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) => true,
            // The server says that it ends the connection (class 57, operator intervention).
            Err(Error::Sqlx(sqlx::Error::Database(error))) => error.code().is_some_and(|code| code.starts_with("57")),
            _ => false,
        };
        if unusable {
            drop(connection.detach());
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the schema, if it is not there, and brings its tables up to date. Several replicas may start at once.
async fn set_up(options: &PgConnectOptions, schema: &str, migrations: &Migrator) -> anyhow::Result<()> {
    // The limits of ordinary calls do not hold here: a migration may take its time.
    let patient = options.clone().options([("statement_timeout", "0")]);
    let mut connection = PgConnection::connect_with(&patient).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(SET_UP_LOCK).execute(&mut connection).await?;
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
