//! Concurrent calls that are executed in groups. One statement that reads the rows of thirty calls takes PostgreSQL and
//! this process a fraction of the time of thirty statements.
//!
//! A call that finds a free slot is executed alone, without delay. While all slots are in use, calls wait, and those that
//! wait when a slot becomes free are the next group. If a group fails, its calls are executed one by one, so that none of
//! them fails because of another.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{Conn, Db, Error, ReadKind};
use crate::trace;

/// Number of groups, and of calls that are executed alone, at the same time. With two, groups are smaller, and a write
/// took a fifth more CPU time.
const SLOTS: usize = 1;

/// How long a group, or a call that is executed alone, occupies a slot. One that takes longer continues without a slot, so
/// that others do not wait for a locked row, a slow disk or a connection that does not respond.
const MAX_OCCUPATION: Duration = Duration::from_millis(10);

/// Maximum number of calls in a group, so that a group takes milliseconds.
const MAX_SIZE: usize = 32;

/// Maximum number of calls that wait. Others are executed alone, and wait for a connection.
const MAX_WAITING: usize = 10_000;

/// How a group is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Statements that only read.
    Read,
    /// Statements in one transaction.
    Write,
}

/// The outcomes of the calls of a group, in the same order: `None` for a call that must be executed alone.
pub type GroupOutcomes<V, E> = Vec<Option<Result<V, E>>>;

/// Executes the calls of a group. If it returns an error, all calls are executed alone.
pub type ExecuteGroup<T, V, E> = for<'c> fn(&'c mut Conn, Vec<T>) -> BoxFuture<'c, Result<GroupOutcomes<V, E>, Error>>;

/// The calls of a group that has begun.
type Begun<T, V, E> = Mutex<Option<Vec<Waiting<T, V, E>>>>;

/// Calls of one kind. `T` describes a call, and `V` and `E` are its outcome.
#[expect(missing_debug_implementations, reason = "the calls contain data of users")]
pub struct Groups<T, V, E>(Arc<Shared<T, V, E>>);

struct Shared<T, V, E> {
    db: Db,
    kind: GroupKind,
    execute: ExecuteGroup<T, V, E>,
    state: Mutex<State<T, V, E>>,
}

struct State<T, V, E> {
    free_slots: usize,
    /// The number of groups that will begin when they have a connection.
    beginning: usize,
    waiting: VecDeque<Waiting<T, V, E>>,
    /// The number of calls that have waited so far.
    tickets: u64,
}

struct Waiting<T, V, E> {
    ticket: u64,
    call: T,
    /// If it is dropped, the call is executed alone.
    respond: oneshot::Sender<Response<V, E>>,
}

enum Response<V, E> {
    /// The call was executed in a group.
    Done(Result<V, E>),
    /// The call is the only one that waits, and is executed alone.
    Alone(Slot),
}

/// How a call begins.
enum Entry<V, E> {
    Alone(Option<Slot>),
    Waiting(u64, oneshot::Receiver<Response<V, E>>),
}

/// Removes a call from the queue if its caller is dropped.
struct Withdrawal<'g, T, V, E> {
    shared: &'g Shared<T, V, E>,
    ticket: u64,
}

impl<T, V, E> Drop for Withdrawal<'_, T, V, E> {
    fn drop(&mut self) {
        self.shared.withdraw(self.ticket);
    }
}

/// A slot, until it is dropped.
struct Slot(Option<Arc<dyn SlotOwner>>);

trait SlotOwner: Send + Sync {
    /// Executes the calls that wait in a slot that has become free.
    fn reuse_slot(self: Arc<Self>);
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(owner) = self.0.take() {
            owner.reuse_slot();
        }
    }
}

impl<T, V, E> Groups<T, V, E>
where
    T: Clone + Send + 'static,
    V: Send + 'static,
    E: From<Error> + Send + 'static,
{
    /// Creates the groups of a database.
    #[must_use]
    pub fn new(db: Db, kind: GroupKind, execute: ExecuteGroup<T, V, E>) -> Self {
        let state = Mutex::new(State { free_slots: SLOTS, beginning: 0, waiting: VecDeque::new(), tickets: 0 });
        Self(Arc::new(Shared { db, kind, execute, state }))
    }

    /// Executes a call in a group, or with `alone`. If the future is dropped before the group begins, nothing is executed.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the group does not begin in time, and those of the call.
    pub async fn call<F>(&self, call: T, alone: impl FnOnce(T) -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let (ticket, mut response) = match self.0.enter(&call) {
            Entry::Alone(slot) => return in_slot(slot, alone(call)).await,
            Entry::Waiting(ticket, response) => (ticket, response),
        };
        let _withdrawal = Withdrawal { shared: &self.0, ticket };
        let span = trace::step("wait for a group");
        // As long as a call waits for a connection.
        let received = match timeout(self.0.db.time_limit(), &mut response).await {
            Ok(received) => received,
            Err(_) if self.0.withdraw(ticket) => return Err(Error::Timeout.into()),
            Err(_) => response.await,
        };
        drop(span);
        match received {
            Ok(Response::Done(outcome)) => outcome,
            Ok(Response::Alone(slot)) => in_slot(Some(slot), alone(call)).await,
            Err(_) => alone(call).await,
        }
    }
}

impl<T, V, E> Shared<T, V, E>
where
    T: Clone + Send + 'static,
    V: Send + 'static,
    E: From<Error> + Send + 'static,
{
    fn enter(self: &Arc<Self>, call: &T) -> Entry<V, E> {
        let mut state = self.lock();
        if state.free_slots > 0 {
            state.free_slots -= 1;
            return Entry::Alone(Some(Slot(Some(Arc::clone(self) as Arc<_>))));
        }
        if state.waiting.len() >= MAX_WAITING {
            return Entry::Alone(None);
        }
        let (respond, response) = oneshot::channel();
        state.tickets += 1;
        let ticket = state.tickets;
        state.waiting.push_back(Waiting { ticket, call: call.clone(), respond });
        Entry::Waiting(ticket, response)
    }

    /// Removes the calls of the next group from the queue.
    fn take_group(&self) -> Vec<Waiting<T, V, E>> {
        let waiting = &mut self.lock().waiting;
        let count = waiting.len().min(MAX_SIZE);
        waiting.drain(..count).collect()
    }

    /// Executes calls that still wait if the slot is free. A group that waited for a connection for longer than
    /// [`MAX_OCCUPATION`] does so without a slot.
    fn use_free_slot(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.free_slots > 0 && !state.waiting.is_empty() {
            state.free_slots -= 1;
            drop(state);
            drop(Slot(Some(Arc::clone(self) as Arc<_>)));
        }
    }

    /// Executes the next group. Its calls leave the queue when there is a connection.
    async fn run_group(self: Arc<Self>) {
        let begun = Arc::new(Mutex::new(None));
        let work = execute(Arc::clone(&self), Arc::clone(&begun));
        let outcome = match self.kind {
            GroupKind::Read => self.db.read(ReadKind::Point, work).await,
            GroupKind::Write => self.db.write(work).await,
        };
        let group = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        if group.is_none() {
            self.lock().beginning -= 1;
            self.use_free_slot();
        }
        match (group, outcome) {
            (Some(group), Ok(outcomes)) => {
                for (waiting, outcome) in group.into_iter().zip(outcomes) {
                    waiting.finish(outcome);
                }
            }
            (Some(group), Err(error)) => {
                tracing::debug!(%error, calls = group.len(), "a group of calls failed");
                for waiting in group {
                    waiting.finish(common_error(&error).map(|error| Err(error.into())));
                }
            }
            // The calls still wait for a connection, each until its own limit.
            (None, Err(Error::Timeout)) => {}
            // Each call fails with its own error.
            (None, _) => drop(self.take_group()),
        }
    }
}

impl<T, V, E> Shared<T, V, E> {
    /// Removes a call from the queue. Returns `false` if its group has begun.
    fn withdraw(&self, ticket: u64) -> bool {
        let waiting = &mut self.lock().waiting;
        // Tickets increase.
        let position = waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok();
        position.and_then(|position| waiting.remove(position)).is_some()
    }

    // Held for a few steps, never across an await.
    fn lock(&self) -> MutexGuard<'_, State<T, V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, V, E> SlotOwner for Shared<T, V, E>
where
    T: Clone + Send + 'static,
    V: Send + 'static,
    E: From<Error> + Send + 'static,
{
    fn reuse_slot(self: Arc<Self>) {
        let mut state = self.lock();
        let without_group = state.waiting.len().saturating_sub(state.beginning * MAX_SIZE);
        let only = if state.waiting.len() == 1 && without_group == 1 { state.waiting.pop_front() } else { None };
        // Without a runtime, the program is exiting.
        let runtime = Handle::try_current().ok().filter(|_| only.is_none() && without_group > 0);
        if only.is_none() && runtime.is_none() {
            state.free_slots += 1;
        }
        state.beginning += usize::from(runtime.is_some());
        drop(state);
        if let Some(only) = only {
            // If its caller has just been dropped, so is the slot.
            _ = only.respond.send(Response::Alone(Slot(Some(self))));
        } else if let Some(runtime) = runtime {
            let slot = Slot(Some(Arc::clone(&self) as Arc<_>));
            runtime.spawn(in_slot(Some(slot), self.run_group()));
        }
    }
}

impl<T, V, E> Waiting<T, V, E> {
    /// Returns the outcome of the call to its caller, or lets it be executed alone.
    fn finish(self, outcome: Option<Result<V, E>>) {
        if let Some(outcome) = outcome {
            // The caller may have been dropped.
            _ = self.respond.send(Response::Done(outcome));
        }
    }
}

/// Executes work in a slot, which becomes free at the end of the work or after [`MAX_OCCUPATION`].
async fn in_slot<F: Future>(slot: Option<Slot>, work: F) -> F::Output {
    let mut work = pin!(work);
    if let Ok(output) = timeout(MAX_OCCUPATION, &mut work).await {
        return output;
    }
    drop(slot);
    work.await
}

/// Returns the closure that executes a group. It moves the calls to `begun`, where they remain if it is dropped.
fn execute<T, V, E>(
    shared: Arc<Shared<T, V, E>>,
    begun: Arc<Begun<T, V, E>>,
) -> impl for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<GroupOutcomes<V, E>, Error>> + Send + 'static
where
    T: Clone + Send + 'static,
    V: Send + 'static,
    E: From<Error> + Send + 'static,
{
    move |conn| {
        let group = shared.take_group();
        shared.lock().beginning -= 1;
        shared.use_free_slot();
        let calls = group.iter().map(|waiting| waiting.call.clone()).collect();
        *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
        (shared.execute)(conn, calls)
    }
}

/// Returns the error of every call of a group that failed with this error, or `None` if the calls must be executed alone:
/// the error may be that of one call, and none has taken effect.
fn common_error(error: &Error) -> Option<Error> {
    match error {
        Error::Timeout => Some(Error::Timeout),
        Error::OutcomeUnknown(reason) => Some(Error::OutcomeUnknown(reason.clone())),
        _ => None,
    }
}
