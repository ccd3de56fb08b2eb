//! The queues in which writes wait for their turn, one for each owner.
//!
//! Writes of one owner wait for each other in the database, on the row with the owner's counter. If they waited there
//! with a connection each, one owner could occupy all connections of the pool. So at most one of them has a
//! connection, and the others wait here. Only PostgreSQL needs this: SQLite has one writer, which commits several
//! writes together.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use service_kit::{
    db::{self, Conn, Db, Engine},
    rate_limit::RateLimit,
    trace,
    turns::{Turn, TurnQueue},
};
use tokio::time::timeout;
use uuid::Uuid;

/// The queues of this process.
#[derive(Debug)]
pub(crate) struct OwnerQueue {
    /// How long a write waits for its turn.
    limit: Duration,
    /// Counts the rows that each owner writes.
    row_rate_limit: Arc<RateLimit>,
    turns: TurnQueue,
}

impl OwnerQueue {
    /// Creates empty queues. A write waits for at most `limit`. Its rows are charged to its owner.
    pub(crate) fn new(limit: Duration, row_rate_limit: Arc<RateLimit>) -> Self {
        Self { limit, row_rate_limit, turns: TurnQueue::default() }
    }

    /// Executes a transaction of an owner when its turn comes. Its turn ends with the transaction, even if the caller
    /// is dropped before that. A caller that is dropped while it waits leaves the queue, and nothing is executed.
    ///
    /// # Errors
    /// [`db::Error::Timeout`] if its turn does not come in time, and those of [`Db::write`].
    pub(crate) async fn write<T, E, F>(&self, db: &Db, owner: Uuid, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        match db.engine() {
            Engine::Sqlite => db.write(charging(owner, self.row_rate_limit(), work)).await,
            Engine::Postgres => self.write_in_turn(db, owner, self.acquire(owner).await?, work).await,
        }
    }

    /// Executes a transaction of an owner whose turn has come. `turn` is dropped at its end.
    ///
    /// # Errors
    /// Those of [`Db::write`].
    pub(super) async fn write_in_turn<T, E, F, H>(&self, db: &Db, owner: Uuid, turn: H, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
        H: Send + 'static,
    {
        let work = charging(owner, self.row_rate_limit(), work);
        let outcome = db.write(|conn| {
            Box::pin(async move {
                match work(conn).await {
                    Ok(value) => Ok(WithTurn::new(value, turn)),
                    Err(error) => Err(WithTurn::new(error, turn)),
                }
            })
        });
        outcome.await.map(|done| done.value).map_err(|failed| failed.value)
    }

    /// Returns the limit of the rows that each owner writes.
    pub(super) fn row_rate_limit(&self) -> Arc<RateLimit> {
        Arc::clone(&self.row_rate_limit)
    }

    /// Like [`write`](Self::write), for a transaction that checks everything before it writes, see
    /// [`Db::write_after_checks`].
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub(crate) async fn write_after_checks<T, E, F>(&self, db: &Db, owner: Uuid, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<db::Error> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        match db.engine() {
            Engine::Sqlite => db.write_after_checks(charging(owner, self.row_rate_limit(), work)).await,
            Engine::Postgres => self.write(db, owner, work).await,
        }
    }

    /// Waits for the turn of a write.
    ///
    /// # Errors
    /// [`db::Error::Timeout`] if it does not come in time.
    pub(super) async fn acquire(&self, owner: Uuid) -> Result<Turn, db::Error> {
        let _span = trace::step("wait for other writes of the account");
        timeout(self.limit, self.turns.acquire(owner)).await.map_err(|_| db::Error::Timeout)
    }
}

/// Returns a transaction that charges the rows that it writes, even if it is rolled back.
fn charging<T, E, F>(
    owner: Uuid,
    row_rate_limit: Arc<RateLimit>,
    work: F,
) -> impl for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static
where
    T: Send + 'static,
    E: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
{
    move |conn| {
        Box::pin(async move {
            let before = conn.written_rows();
            let outcome = work(conn).await;
            row_rate_limit.charge(&owner, conn.written_rows() - before);
            outcome
        })
    }
}

/// A result of a transaction. The database layer returns it after the commit or the rollback, so that the turn lasts
/// until then.
struct WithTurn<T, H> {
    value: T,
    _turn: Option<H>,
}

impl<T, H> WithTurn<T, H> {
    fn new(value: T, turn: H) -> Self {
        Self { value, _turn: Some(turn) }
    }
}

impl<E: From<db::Error>, H> From<db::Error> for WithTurn<E, H> {
    fn from(error: db::Error) -> Self {
        Self { value: error.into(), _turn: None }
    }
}

#[cfg(test)]
mod tests;
