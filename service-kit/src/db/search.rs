//! Searches: reads that may visit all rows of an account, such as those with a filter.
//!
//! Each account executes one search at a time. A search has two attempts. The first shares the connections of other
//! reads and is stopped after [`QUICK_BUDGET`]. If it does not finish, the search waits until it is one of the few long
//! searches of this process, and starts again. So quick searches do not wait behind long ones, and other reads always
//! find a connection. The time that the searches of an account take is limited as well.

use std::{future::pending, ops::ControlFlow, sync::Arc, time::Duration};

use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use uuid::Uuid;

use super::{Db, Error, FromRow, ReadKind, Row, Sql, Value};
use crate::{
    clock::Clock,
    ops::config::OnOff,
    rate_limit::{Rate, RateLimit},
    status::ApiError,
    turns::TurnQueue,
};

/// How long the first attempt may take. Most searches take less.
const QUICK_BUDGET: Duration = Duration::from_millis(50);

/// How long the second attempt may take, unless the time limit of database calls is shorter.
const BUDGET: Duration = Duration::from_secs(1);

/// How long a search waits for other searches, in total.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Maximum number of searches of an account that wait or are executed.
const MAX_SEARCHES: usize = 64;

/// How many milliseconds the searches of an account may take: three seconds at once, then a fifth of the time. Searches
/// that take less than a millisecond do not count.
const TIME_LIMIT: &str = "3000+200/s";

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
    /// The searches of the account have taken too long. Contains the delay until the next one may be executed.
    #[error("the searches of the account have taken too long")]
    RateLimited(Duration),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        let new = |limit, reason, message| Self::limit_exceeded(limit, reason, message);
        match error {
            SearchError::TooExpensive => {
                let message = "the filter takes too long; use fewer conditions, or fewer that search texts";
                new("search_cost", ErrorReason::FilterTooExpensive, message).field("filter", message)
            }
            SearchError::Overloaded => {
                new("search_queue", ErrorReason::Overloaded, "too many searches are waiting").retry_after(RETRY_DELAY)
            }
            SearchError::RateLimited(delay) => {
                let message = "the searches of this account have taken too long; use fewer conditions";
                new("search_time", ErrorReason::RateLimited, message).retry_after(delay)
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
    /// The milliseconds that the searches of accounts have taken, if they are limited.
    time_limit: Option<Arc<RateLimit>>,
}

impl Searches {
    /// Creates an executor for a database. It should be the only one of the process.
    #[must_use]
    pub fn new(db: Db, clock: Clock, rate_limits: OnOff) -> Self {
        let time_limit: Rate = TIME_LIMIT.parse().expect("a rate");
        let time_limit = (rate_limits == OnOff::On).then(|| Arc::new(RateLimit::new(time_limit, clock)));
        let (slots, budget) = (db.max_long_searches(), BUDGET.min(db.time_limit() / 2));
        Self { db, turns: TurnQueue::default(), slots: Arc::new(Semaphore::new(slots)), budget, time_limit }
    }

    /// Returns all rows that a statement finds.
    ///
    /// # Errors
    /// If the search exceeds its budget, too many searches are waiting, those of the account have taken too long, or the
    /// database returns an error.
    pub async fn fetch_all<R: FromRow + Clone + Send + 'static>(
        &self,
        account: Uuid,
        select: (Sql, Vec<Value>),
    ) -> Result<Vec<R>, SearchError> {
        let push = |rows: &mut Vec<R>, row: &mut Row<'_>| {
            rows.push(R::from_row(row)?);
            Ok(ControlFlow::Continue(()))
        };
        self.fold(account, select, Vec::new(), push).await
    }

    /// Calls `add` with `value` and each row that a statement finds, until it returns `Break`. Returns the value.
    ///
    /// # Errors
    /// As [`fetch_all`](Self::fetch_all), or if `add` returns an error.
    pub async fn fold<T, F>(&self, account: Uuid, select: (Sql, Vec<Value>), value: T, add: F) -> Result<T, SearchError>
    where
        T: Clone + Send + 'static,
        F: FnMut(&mut T, &mut Row<'_>) -> Result<ControlFlow<()>, Error> + Clone + Send + 'static,
    {
        if self.turns.count(account) >= MAX_SEARCHES {
            return Err(SearchError::Overloaded);
        }
        let deadline = Instant::now() + MAX_WAIT;
        let turn = timeout_at(deadline, self.turns.acquire(account)).await.map_err(|_| SearchError::Overloaded)?;
        self.await_time(account, deadline).await?;
        let turn = Arc::new(turn);
        let search = Search { account, select, value, add };
        if let Some(value) = self.attempt(ReadKind::Scan, QUICK_BUDGET, search.clone(), Arc::clone(&turn)).await? {
            return Ok(value);
        }
        let slot = timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| SearchError::Overloaded)?.map_err(|_| Error::Closed)?;
        let value = self.attempt(ReadKind::LongSearch, self.budget, search, (turn, slot)).await?;
        value.ok_or(SearchError::TooExpensive)
    }

    /// Waits until the searches of the account have not taken too long.
    async fn await_time(&self, account: Uuid, deadline: Instant) -> Result<(), SearchError> {
        let Some(Err(delay)) = self.time_limit.as_ref().map(|limit| limit.check_charges(&account)) else {
            return Ok(());
        };
        let end = Instant::now() + delay;
        if end > deadline {
            return Err(SearchError::RateLimited(delay));
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Executes a search. Returns `None` if it takes longer than the budget, and stops it. `permits` are held until it
    /// has stopped.
    async fn attempt<T, F>(
        &self,
        kind: ReadKind,
        budget: Duration,
        search: Search<T, F>,
        permits: impl Send + 'static,
    ) -> Result<Option<T>, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut T, &mut Row<'_>) -> Result<ControlFlow<()>, Error> + Send + 'static,
    {
        let (start, started) = oneshot::channel();
        let time_limit = self.time_limit.clone();
        let read = self.db.read(kind, move |conn| {
            Box::pin(async move {
                let Search { account, select: (sql, args), value, add } = search;
                let usage = TimeUsage { time_limit, account, begun: Instant::now() };
                // The caller may be gone.
                _ = start.send(());
                let value = conn.fold(sql, args, value, add).await;
                drop(usage);
                drop(permits);
                value
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
            value = read => value.map(Some),
            () = exceeded => Ok(None),
        }
    }
}

/// The account and the parameters of [`Searches::fold`].
#[derive(Clone)]
struct Search<T, F> {
    account: Uuid,
    select: (Sql, Vec<Value>),
    value: T,
    add: F,
}

/// Charges an account with the time from `begun` until this is dropped, which is when a statement has ended or stopped.
struct TimeUsage {
    time_limit: Option<Arc<RateLimit>>,
    account: Uuid,
    begun: Instant,
}

impl Drop for TimeUsage {
    fn drop(&mut self) {
        if let Some(limit) = &self.time_limit {
            limit.charge(&self.account, u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
    }
}
