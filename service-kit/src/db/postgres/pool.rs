//! A pool of connections.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleResult, Timeouts};
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep, timeout};

use super::session::SessionSettings;
use crate::db::{
    Error,
    conn::{Conn, Kind, postgres::PgConn},
};

/// Connections idle for longer than this are pinged before they are used, because a restart of the server may have
/// closed them.
const MAX_IDLE_UNCHECKED: Duration = Duration::from_secs(1);

/// Connections idle for longer than this are closed.
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);

/// Connections older than this are replaced, because the server's memory for a connection grows.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// How long a session uses the same plans. A plan depends on the sizes of the tables when it is made. On a small table,
/// the server may choose an index that does not suit a large one, and keeps that plan until it analyzes the table.
const PLAN_LIFETIME: Duration = Duration::from_secs(10);

/// How often the pool closes idle connections.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// A pool of sessions with the same settings.
#[derive(Clone, Debug)]
pub(super) struct Pool(managed::Pool<Connector>);

/// The use of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) in_use: usize,
    pub(super) idle: usize,
    pub(super) max: usize,
    /// The number of calls that wait for a session.
    pub(super) waiting: usize,
}

/// A slot of the pool for one connection, which is opened on demand. A caller can stop waiting for a slot at any time.
/// Connecting and all later steps continue in a separate task if the call is abandoned (see `Postgres::run`), so that
/// no connection is lost.
#[derive(Debug)]
pub(super) struct Session {
    connector: Connector,
    conn: Option<Conn>,
    /// The process id of the connection's backend.
    backend_pid: i64,
    /// Whether the connection is pinged before the next use, even if it was idle only briefly.
    must_be_checked: bool,
    connected_at: Instant,
    used_at: Instant,
    /// When the server's plans were last discarded, or when the connection was opened.
    plans_discarded_at: Instant,
}

/// Creates sessions.
#[derive(Clone, Debug)]
pub(super) struct Connector(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    settings: SessionSettings,
    limit: Duration,
    /// Whether the last attempt to connect has failed.
    is_failing: AtomicBool,
}

impl managed::Manager for Connector {
    type Type = Session;
    type Error = Infallible;

    async fn create(&self) -> Result<Session, Infallible> {
        let now = Instant::now();
        Ok(Session {
            connector: self.clone(),
            conn: None,
            backend_pid: 0,
            must_be_checked: false,
            connected_at: now,
            used_at: now,
            plans_discarded_at: now,
        })
    }

    async fn recycle(&self, _: &mut Session, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

impl Pool {
    /// Creates a pool of at most `max_size` connections. `limit` is the timeout for waiting for a session, and for
    /// connecting.
    pub(super) fn new(options: PgConnectOptions, settings: SessionSettings, max_size: u32, limit: Duration) -> Self {
        let connector = Connector(Arc::new(Shared { options, settings, limit, is_failing: AtomicBool::new(false) }));
        let pool = managed::Pool::builder(connector)
            .max_size(max_size as usize)
            // The most recently used connection is used next, so that surplus connections become idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime can be built");
        let weak = pool.weak();
        tokio::spawn(async move {
            loop {
                sleep(IDLE_CHECK_INTERVAL).await;
                let Some(pool) = weak.upgrade() else { break };
                pool.retain(|session, _| session.used_at.elapsed() < MAX_IDLE);
            }
        });
        Self(pool)
    }

    /// Waits for a session. The future may be dropped at any time.
    ///
    /// # Errors
    /// [`Error::Timeout`] and [`Error::Closed`].
    pub(super) async fn get(&self) -> Result<Object<Connector>, Error> {
        let timeouts = Timeouts { wait: Some(self.0.manager().0.limit), ..Timeouts::default() };
        self.0.timeout_get(&timeouts).await.map_err(|error| match error {
            PoolError::Timeout(_) => Error::Timeout,
            _ => Error::Closed,
        })
    }

    /// Returns how many sessions are in use.
    pub(super) fn usage(&self) -> Usage {
        let managed::Status { max_size, size, available, waiting } = self.0.status();
        Usage { in_use: size.saturating_sub(available), idle: available, max: max_size, waiting }
    }

    /// Reports whether the last attempt to connect has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.0.manager().0.is_failing.load(Ordering::Relaxed)
    }

    /// Rejects further calls.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Session {
    /// Takes the connection out of the slot, after connecting or checking it if necessary. Unless it is
    /// [released](Self::release), it is closed when it is dropped.
    ///
    /// # Errors
    /// If the server cannot be reached in time.
    pub(super) async fn acquire(&mut self) -> Result<Conn, Error> {
        let (limit, mut idle) = (self.connector.0.limit, self.conn.take());
        if self.is_fresh()
            && let Some(conn) = idle.take()
        {
            return Ok(conn);
        }
        let acquired = timeout(limit, async {
            if let Some(mut conn) = idle
                && timeout(limit / 4, self.check(&mut conn)).await.is_ok_and(|checked| checked.is_ok())
            {
                return Ok(conn);
            }
            self.connect().await
        });
        acquired.await.unwrap_or_else(|_| {
            self.connector.0.is_failing.store(true, Ordering::Relaxed);
            Err(Error::Timeout)
        })
    }

    /// Returns a connection to the slot, unless it is too old or must not be used again.
    pub(super) fn release(&mut self, mut conn: Conn) {
        let now = Instant::now();
        (self.used_at, self.must_be_checked) = (now, false);
        let pg = postgres(&mut conn);
        pg.has_failed = false;
        if !pg.is_broken && now - self.connected_at < MAX_AGE {
            self.conn = Some(conn);
        }
    }

    /// Requires a ping before the next use, because a request to cancel a statement may still be on its way.
    pub(super) fn check_before_use(&mut self) {
        self.must_be_checked = true;
    }

    /// Returns the process id of the connection's backend.
    pub(super) fn backend_pid(&self) -> i64 {
        self.backend_pid
    }

    fn is_fresh(&self) -> bool {
        let now = Instant::now();
        !self.must_be_checked
            && now - self.used_at < MAX_IDLE_UNCHECKED
            && now - self.plans_discarded_at < PLAN_LIFETIME
    }

    /// Checks that the server responds, and discards its plans if they are old.
    async fn check(&mut self, conn: &mut Conn) -> Result<(), Error> {
        if self.plans_discarded_at.elapsed() < PLAN_LIFETIME {
            return postgres(conn).ping().await;
        }
        self.plans_discarded_at = Instant::now();
        postgres(conn).control("discard plans").await
    }

    async fn connect(&mut self) -> Result<Conn, Error> {
        let shared = &self.connector.0;
        let connected = shared.connect().await;
        shared.is_failing.store(connected.is_err(), Ordering::Relaxed);
        let (connection, backend_pid) = connected?;
        let now = Instant::now();
        (self.backend_pid, self.connected_at, self.plans_discarded_at) = (backend_pid, now, now);
        Ok(Conn::new(Kind::Postgres(PgConn::new(connection))))
    }
}

impl Shared {
    /// Connects. Retries while the server is starting or has no free connection.
    async fn connect(&self) -> Result<(sqlx::PgConnection, i64), Error> {
        let mut pause = Duration::from_millis(10);
        loop {
            match self.settings.connect(&self.options).await {
                Err(error) if is_temporary(&error) => sleep(pause).await,
                outcome => return outcome,
            }
            pause = (pause * 2).min(self.limit / 5);
        }
    }
}

pub(super) fn postgres(conn: &mut Conn) -> &mut PgConn {
    match &mut conn.kind {
        Kind::Postgres(conn) => conn,
        Kind::Sqlite(_) => unreachable!("a PostgreSQL session has a PostgreSQL connection"),
    }
}

/// Reports whether the server does not listen yet, has no free connection (53300), or is starting up (57P03).
fn is_temporary(error: &Error) -> bool {
    match error {
        Error::Postgres(sqlx::Error::Io(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        error => ["53300", "57P03"].contains(&error.sqlstate()),
    }
}
