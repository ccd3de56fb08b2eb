//! The kind of a database call, and whether its caller still waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::time::Instant;

const QUEUED: u8 = 0;
const STARTED: u8 = 1;
const ABANDONED: u8 = 2;

/// How many rows a read visits. On SQLite, point reads do not wait behind scans, and neither waits behind long searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// One row, found by its key.
    Point,
    /// Any number of rows.
    Scan,
    /// All rows of an account, with a filter that takes long.
    LongSearch,
}

/// A database call, shared by its caller and the thread that executes it. A call that is abandoned before it starts is
/// never executed.
#[derive(Debug)]
pub(super) struct Call {
    state: AtomicU8,
    /// When the caller stops waiting.
    deadline: Instant,
}

impl Call {
    /// Starts the call. Returns `false` if it has been abandoned and must not be executed.
    pub(super) fn start(&self) -> bool {
        self.state.compare_exchange(QUEUED, STARTED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Reports whether the call was abandoned or its deadline has passed.
    pub(super) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED || Instant::now() >= self.deadline
    }
}

/// The caller's end of a [`Call`]. Dropping it abandons the call.
#[derive(Debug)]
pub(super) struct Caller(Arc<Call>);

impl Caller {
    pub(super) fn new(deadline: Instant) -> Self {
        Self(Arc::new(Call { state: AtomicU8::new(QUEUED), deadline }))
    }

    pub(super) fn call(&self) -> Arc<Call> {
        Arc::clone(&self.0)
    }

    /// Abandons the call. Returns `true` if it had not started and therefore never will.
    pub(super) fn abandon(&self) -> bool {
        self.0.state.swap(ABANDONED, Ordering::AcqRel) == QUEUED
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.abandon();
    }
}
