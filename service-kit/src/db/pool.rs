//! Connections that are kept for the next call. The pool of sqlx asks each connection whether it is still there whenever
//! it comes back, which is one more round trip for every call, and a task of its own.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use super::Error;

/// A connection that has been idle for longer is asked before it is used, so that those which a restart of the server
/// has ended are not found out by the callers.
const IDLE: Duration = Duration::from_secs(1);

/// One that nobody has needed for so long is closed,
const UNUSED: Duration = Duration::from_secs(10 * 60);

/// and so is one of this age: what a server keeps for a connection grows.
const AGE: Duration = Duration::from_secs(30 * 60);

/// The connections of one kind to one database.
#[derive(Debug)]
pub(super) struct Pool<C: Connection>(Arc<Shared<C>>);

// A connection itself cannot be cloned, which the derived one would ask for.
impl<C: Connection> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<C: Connection> {
    options: C::Options,
    limit: Duration,
    most: u32,
    /// One for each connection that may be held.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Kept<C>>>,
}

#[derive(Debug)]
struct Kept<C> {
    connection: C,
    made_at: Instant,
    used_at: Instant,
}

impl<C: Connection> Pool<C> {
    /// At most so many connections, which are made when they are needed. Waiting for one may take as long as `limit`.
    pub(super) fn new(options: C::Options, most: u32, limit: Duration) -> Self {
        let places = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Shared { options, limit, most, places, idle: Mutex::default() }))
    }

    pub(super) fn options(&self) -> &C::Options {
        &self.0.options
    }

    /// A connection that is good as far as one can know.
    pub(super) async fn take(&self) -> Result<Held<C>, Error> {
        let taken = timeout(self.0.limit, async {
            let place = Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
            let kept = match self.0.good().await {
                Some(kept) => kept,
                None => self.0.make().await?,
            };
            Ok(Held { kept: Some(kept), pool: Arc::clone(&self.0), _place: place })
        });
        Ok(taken.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    /// Waits for the connections that are held, and closes all.
    pub(super) async fn close(&self) {
        let held = self.0.places.acquire_many(self.0.most).await;
        self.0.places.close();
        let idle = std::mem::take(&mut *self.0.idle());
        for kept in idle {
            // It goes either way.
            _ = kept.connection.close().await;
        }
        drop(held);
    }
}

impl<C: Connection> Shared<C> {
    async fn good(&self) -> Option<Kept<C>> {
        loop {
            let mut kept = self.idle().pop()?;
            if kept.used_at.elapsed() < IDLE
                || timeout(self.limit / 4, kept.connection.ping()).await.is_ok_and(|answer| answer.is_ok())
            {
                return Some(kept);
            }
        }
    }

    /// Makes a connection, and waits for a server that is just coming up.
    async fn make(&self) -> Result<Kept<C>, sqlx::Error> {
        let mut pause = Duration::from_millis(10);
        loop {
            match self.options.connect().await {
                Ok(connection) => {
                    let now = Instant::now();
                    return Ok(Kept { connection, made_at: now, used_at: now });
                }
                Err(error) if comes_up(&error) => sleep(pause).await,
                Err(error) => return Err(error),
            }
            pause = (pause * 2).min(self.limit / 5);
        }
    }

    fn keep(&self, mut kept: Kept<C>) {
        let now = Instant::now();
        if now.duration_since(kept.made_at) > AGE || self.places.is_closed() {
            return;
        }
        kept.used_at = now;
        let mut idle = self.idle();
        // The one that was used last is taken first, so that the others become superfluous.
        if idle.first().is_some_and(|first| now.duration_since(first.used_at) > UNUSED) {
            idle.remove(0);
        }
        idle.push(kept);
    }

    // Held for a moment, never across an await.
    fn idle(&self) -> MutexGuard<'_, Vec<Kept<C>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody listens yet, or there is no room at the moment (53300), or the server is starting up (57P03).
fn comes_up(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["53300", "57P03"].contains(&&*code)),
        _ => false,
    }
}

/// A connection that is held for one call. Unless it is given back after the call has ended well, it is closed at
/// once: whoever gives up in the middle (a deadline, a caller who hangs up, a panic) leaves it in a state that nobody
/// knows, and asking a server that has silently gone would never end.
#[derive(Debug)]
pub struct Held<C: Connection> {
    kept: Option<Kept<C>>,
    pool: Arc<Shared<C>>,
    _place: OwnedSemaphorePermit,
}

impl<C: Connection> Held<C> {
    /// The connection.
    pub fn connection(&mut self) -> &mut C {
        &mut self.kept.as_mut().expect("it is held until it is given back").connection
    }

    /// Gives the connection back if the call has left it usable.
    ///
    /// # Errors
    /// The outcome is passed on as it is.
    pub fn give_back<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        let usable = match &outcome {
            Ok(_) | Err(Error::Sqlx(sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. })) => true,
            // The server has refused the statement; unless it ends the connection (class 57, operator intervention,
            // or a transaction that took too long).
            Err(Error::Sqlx(sqlx::Error::Database(error))) => {
                !error.code().is_some_and(|code| ["57", "25P03", "25P04"].iter().any(|class| code.starts_with(class)))
            }
            Err(_) => false,
        };
        if let Some(kept) = self.kept.take_if(|_| usable) {
            self.pool.keep(kept);
        }
        outcome
    }
}
