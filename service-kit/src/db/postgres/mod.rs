//! PostgreSQL: a pool of sessions in one schema.
//!
//! If a caller abandons a call that has a connection, the call continues in a separate task until it ends, is cancelled
//! (reads only), or reaches its time limit. It then releases the connection.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use sqlx::migrate::Migrator;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::PoolArgs;
use super::{Conn, Error, Migrate, PostgresUrl};
use crate::{ops::as_gauge, trace};

mod detached;
mod listen;
mod pool;
pub(super) mod session;
pub(super) mod setup;

use detached::{CallState, DetachOnDrop};
use pool::{Pool, Session, Usage, postgres};
use session::SessionSettings;

/// Number of connections that cancel abandoned reads. Each request takes one round trip.
const CANCEL_CONNECTIONS: u32 = 2;

/// How a call is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Statements that only read.
    Read,
    /// One statement that writes.
    Statement,
    /// Statements in one transaction.
    Transaction,
}

/// The sessions of one service.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    pool: Pool,
    /// The connection of the revocation feed. The feed, the health check and the requests to cancel reads have their own
    /// connections, so that none of them waits behind calls or behind another.
    feed: Pool,
    /// The connection of the health check.
    health: Pool,
    /// The connections that cancel abandoned reads.
    cancel: Pool,
    /// The URL for receiving notifications: the direct URL of the server, if one is configured.
    listen_url: PostgresUrl,
    /// The calls that are being executed.
    tasks: TaskTracker,
    /// The statement timeout.
    limit: Duration,
    /// Number of connections for long searches.
    max_long_searches: usize,
}

impl Postgres {
    pub(super) async fn open(
        url: &PostgresUrl,
        schema: &str,
        migrations: &Migrator,
        migrate: Migrate,
        args: &PoolArgs,
    ) -> anyhow::Result<Self> {
        let direct = setup::direct_url(url, args)?;
        setup::prepare(url, direct, schema, migrations, migrate).await?;
        let limit = args.database_timeout;
        let settings = SessionSettings::new(schema, limit);
        let pool = |size| Pool::new(url.options().clone(), settings.clone(), size, limit);
        Ok(Self {
            pool: pool(args.database_connections),
            feed: pool(1),
            health: pool(1),
            cancel: pool(CANCEL_CONNECTIONS),
            listen_url: direct.clone(),
            tasks: TaskTracker::new(),
            limit,
            // Most connections remain for other calls.
            max_long_searches: (args.database_connections / 4).max(1) as usize,
        })
    }

    pub(super) fn max_long_searches(&self) -> usize {
        self.max_long_searches
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.limit
    }

    /// Returns a handle for the revocation feed, whose calls do not wait behind those of others.
    pub(super) fn for_feed(&self) -> Self {
        Self { pool: self.feed.clone(), ..self.clone() }
    }

    /// Executes a read. If the future is dropped before a session is available, nothing is executed.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        self.run(Mode::Read, work).await
    }

    /// Executes one statement that writes. If the future is dropped before a session is available, nothing is executed.
    pub(super) async fn write_statement<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        // The statement commits by itself, so the outcome is unknown if the connection is lost.
        let to_commit_error = |error: Error| match error {
            error if error.is_connection_lost() => Error::OutcomeUnknown(error.to_string()),
            error => error,
        };
        self.run(Mode::Statement, move |conn| Box::pin(async move { work(conn).await.map_err(to_commit_error) })).await
    }

    /// Executes several statements in a transaction, which is rolled back if `work` returns an error. If the future is
    /// dropped before a session is available, nothing is executed.
    pub(super) async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        self.run(Mode::Transaction, work).await
    }

    async fn run<T, E, F>(&self, mode: Mode, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let waiting = trace::wait_for_connection();
        let mut session = waiting.observe(self.pool.get().await)?;
        // Longer than the statement timeout, so that the server cancels the statement and the connection survives.
        let limit = self.limit + self.limit / 8;
        let state = Arc::new(CallState::default());
        let call = Arc::clone(&state);
        let work = async move {
            let conn = session.acquire().await?;
            if !call.start(session.backend_pid()) {
                // The caller has received an error or has disconnected, so the call must not take effect.
                session.release(conn);
                return Err(Error::Closed.into());
            }
            let outcome = execute(&mut session, conn, mode, limit, work).await;
            if call.is_cancelled() {
                session.check_before_use();
            }
            outcome
        };
        let work = Box::pin(self.tasks.track_future(AssertUnwindSafe(work).catch_unwind()));
        let outcome = DetachOnDrop::new(work, state, (mode == Mode::Read).then_some(&self.cancel)).await;
        outcome.unwrap_or_else(|_| Err(Error::Bug("the closure of a database call panicked").into()))
    }

    /// Calls `receive` for notifications of a channel, until the future is dropped.
    pub(super) async fn listen(&self, channel: &'static str, receive: impl FnMut(Option<&str>)) {
        listen::listen(self.listen_url.options(), self.limit, channel, receive).await;
    }

    /// Checks that the server accepts new calls: with a connection of its own, and with one of the pool if its last
    /// attempt to connect failed.
    ///
    /// # Errors
    /// If the server does not accept calls.
    pub(super) async fn check(&self) -> Result<(), Error> {
        Self { pool: self.health.clone(), ..self.clone() }.read(probe).await?;
        if self.pool.is_failing() { self.read(probe).await } else { Ok(()) }
    }

    /// Sets the metrics of the connections for calls.
    pub(super) fn record_metrics(&self, service: &'static str) {
        let Usage { in_use, idle, max, waiting } = self.pool.usage();
        let connections =
            |state| metrics::gauge!("taskey_database_connections", "service" => service, "state" => state);
        connections("in_use").set(as_gauge(in_use));
        connections("idle").set(as_gauge(idle));
        metrics::gauge!("taskey_database_max_connections", "service" => service).set(as_gauge(max));
        metrics::gauge!("taskey_database_waiting_calls", "service" => service, "queue" => "pool")
            .set(as_gauge(waiting));
    }

    /// Waits for the calls that are being executed, and closes the connections.
    pub(super) async fn close(&self) {
        [&self.pool, &self.feed, &self.health, &self.cancel].into_iter().for_each(Pool::close);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Reads from a table of this program. Fails if the table cannot be used.
fn probe(conn: &mut Conn) -> BoxFuture<'_, Result<(), Error>> {
    const PROBE: &str = "select version from _sqlx_migrations limit 1";
    Box::pin(async { conn.fetch_optional::<i64>(PROBE, Vec::new()).await.map(drop) })
}

/// Runs a closure on a connection, and releases the connection if it can be used again.
async fn execute<T, E, F>(session: &mut Session, mut conn: Conn, mode: Mode, limit: Duration, work: F) -> Result<T, E>
where
    E: From<Error>,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>>,
{
    // A connection that does not respond in time is dropped, and the server rolls back.
    let outcome = match mode {
        Mode::Read => timeout(limit, work(&mut conn)).await.map_err(|_| Error::Timeout)?,
        Mode::Statement => timeout(limit, work(&mut conn)).await.map_err(|_| outcome_unknown())?,
        Mode::Transaction => {
            timeout(limit, postgres(&mut conn).control("begin")).await.map_err(|_| Error::Timeout)??;
            let outcome = timeout(limit, work(&mut conn)).await.map_err(|_| Error::Timeout)?;
            end_transaction(&mut conn, limit, outcome).await?
        }
    };
    session.release(conn);
    outcome
}

/// Commits, or rolls back after an error.
///
/// # Errors
/// The outer error if the connection must not be used again.
async fn end_transaction<T, E: From<Error>>(
    conn: &mut Conn,
    limit: Duration,
    outcome: Result<T, E>,
) -> Result<Result<T, E>, E> {
    let outcome = outcome.and_then(|value| conn.check_statements().map(|()| value).map_err(E::from));
    let Ok(value) = outcome else {
        if timeout(limit, postgres(conn).control("rollback")).await.is_ok_and(|rollback| rollback.is_ok()) {
            return Ok(outcome);
        }
        return outcome.map(Ok);
    };
    let span = trace::commit(conn.engine().name());
    match timeout(limit, postgres(conn).control("commit")).await.map(|committed| span.observe(committed)) {
        Ok(Ok(())) => Ok(Ok(value)),
        Ok(Err(error)) if error.is_connection_lost() => Err(Error::OutcomeUnknown(error.to_string()).into()),
        Ok(Err(error)) => Ok(Err(error.into())),
        Err(_) => Err(outcome_unknown().into()),
    }
}

fn outcome_unknown() -> Error {
    Error::OutcomeUnknown("the server did not respond in time".to_owned())
}
