//! Searches: reads that may visit all rows of an account, such as those with a filter.
//!
//! Each account executes one search at a time. A search has two attempts. The first shares the connections of other
//! reads and is stopped after [`QUICK_BUDGET`]. If it does not finish, the search waits until it is one of the few long
//! searches of this process, and starts again. So quick searches do not wait behind long ones, and other reads always
//! find a connection.

use std::{future::pending, sync::Arc, time::Duration};

use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tonic::Code;
use uuid::Uuid;

use super::{Db, Error, FromRow, ReadKind, Sql, Value};
use crate::{status::ApiError, turns::TurnQueue};

/// How long the first attempt may take. Most searches take less.
const QUICK_BUDGET: Duration = Duration::from_millis(50);

/// How long the second attempt may take, unless the time limit of database calls is shorter.
const BUDGET: Duration = Duration::from_secs(1);

/// How long a search waits for other searches, in total.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Maximum number of searches of an account that wait or are executed.
const MAX_SEARCHES: usize = 64;

/// How long a caller should wait before a retry if there are too many searches.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It did not finish within its budget, and would not if it was repeated.
    #[error("the search takes too long")]
    TooExpensive,
    /// Too many searches are waiting.
    #[error("too many searches are waiting")]
    Overloaded,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let new = |reason, message| Self::new(Code::ResourceExhausted, reason, message);
        match error {
            SearchError::TooExpensive => {
                let message = "the filter takes too long; use fewer conditions, or fewer that search texts";
                new(ErrorReason::FilterTooExpensive, message).field("filter", message)
            }
            SearchError::Overloaded => {
                new(ErrorReason::Overloaded, "too many searches are waiting").retry_after(RETRY_DELAY)
            }
            SearchError::Database(error) => error.into(),
        }
    }
}

/// Executes the searches of a process.
#[derive(Clone, Debug)]
pub struct Searches {
    db: Db,
    turns: TurnQueue,
    /// One permit for each long search.
    slots: Arc<Semaphore>,
    budget: Duration,
}

impl Searches {
    /// Creates an executor for a database. It should be the only one of the process.
    #[must_use]
    pub fn new(db: Db) -> Self {
        let (slots, budget) = (db.max_long_searches(), BUDGET.min(db.time_limit() / 2));
        Self { db, turns: TurnQueue::default(), slots: Arc::new(Semaphore::new(slots)), budget }
    }

    /// Returns all rows that a statement finds.
    ///
    /// # Errors
    /// If the search exceeds its budget, too many searches are waiting, or the database returns an error.
    pub async fn fetch_all<R: FromRow + Send + 'static>(
        &self,
        account: Uuid,
        (sql, args): (Sql, Vec<Value>),
    ) -> Result<Vec<R>, SearchError> {
        if self.turns.count(account) >= MAX_SEARCHES {
            return Err(SearchError::Overloaded);
        }
        let deadline = Instant::now() + MAX_WAIT;
        let turn = timeout_at(deadline, self.turns.acquire(account)).await.map_err(|_| SearchError::Overloaded)?;
        let turn = Arc::new(turn);
        let (quick_sql, quick_args, quick_turn) = (sql.clone(), args.clone(), Arc::clone(&turn));
        if let Some(rows) = self.attempt(ReadKind::Scan, QUICK_BUDGET, quick_sql, quick_args, quick_turn).await? {
            return Ok(rows);
        }
        let slot = timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| SearchError::Overloaded)?.map_err(|_| Error::Closed)?;
        let rows = self.attempt(ReadKind::LongSearch, self.budget, sql, args, (turn, slot)).await?;
        rows.ok_or(SearchError::TooExpensive)
    }

    /// Executes a statement. Returns `None` if it takes longer than the budget, and stops it. `permits` are held until it
    /// has stopped.
    async fn attempt<R: FromRow + Send + 'static>(
        &self,
        kind: ReadKind,
        budget: Duration,
        sql: Sql,
        args: Vec<Value>,
        permits: impl Send + 'static,
    ) -> Result<Option<Vec<R>>, Error> {
        let (start, started) = oneshot::channel();
        let read = self.db.read(kind, move |conn| {
            Box::pin(async move {
                // The caller may be gone.
                _ = start.send(());
                let rows = conn.fetch_all(sql, args).await;
                drop(permits);
                rows
            })
        });
        // Waiting for a connection does not count.
        let exceeded = async {
            match started.await {
                Ok(()) => sleep(budget).await,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            biased;
            rows = read => rows.map(Some),
            () = exceeded => Ok(None),
        }
    }
}
