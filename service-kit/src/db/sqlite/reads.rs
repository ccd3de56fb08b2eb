//! Reads that share a look at the file, and a trip to a thread where they may take long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlx::Connection;
use tokio::{
    sync::mpsc,
    task::{spawn_blocking, yield_now},
};

use super::at_once;
use crate::db::{
    driver::RusqliteConnection,
    pool::{Held, Pool},
};

/// How many reads form a group at most: the first of them waits for the last.
const MAX_GROUP: usize = 32;

/// How much a read looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One row, by its key.
    Row,
    /// Who knows how many.
    Rows,
}

/// A read that waits for its turn.
pub(super) struct Read {
    pub(super) extent: Extent,
    pub(super) run: Run,
}

/// Tells the caller by itself what has come of it.
pub(super) type Run = Box<dyn FnOnce(&mut RusqliteConnection) + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(&mut RusqliteConnection) + Send + 'static) -> Run {
    Box::new(run)
}

/// Sends all reads that wait to a reader that is free, for as long as there is anybody who could ask. To wake a thread takes
/// longer than most reads, and so do the locks that a look at the file takes. A row by its key is read in place: it takes
/// less than 10 µs, a handful of pages, which are in memory unless nobody has needed them for long.
pub(super) async fn read_in_groups(readers: Pool<RusqliteConnection>, mut queue: mpsc::Receiver<Read>) {
    while let Some(first) = queue.recv().await {
        // Where none becomes free, the callers find out as the reads are dropped.
        let Ok(held) = readers.take().await else { continue };
        // Whoever is about to ask shall be in it.
        yield_now().await;
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(read) = queue.try_recv()
        {
            group.push(read);
        }
        if group.iter().all(|read| read.extent == Extent::Row) {
            run(held, group);
        } else {
            spawn_blocking(move || run(held, group));
        }
    }
}

/// Runs a group in one transaction. A connection that cannot begin or end one is not used again, and its reads are dropped.
fn run(mut held: Held<RusqliteConnection>, group: Vec<Read>) {
    let ran = at_once(async {
        let mut look = held.connection().begin().await?;
        for read in group {
            // A read that panics drops what its caller waits for.
            _ = catch_unwind(AssertUnwindSafe(|| (read.run)(&mut look)));
        }
        look.commit().await
    });
    if let Err(error) = held.give_back(ran.map_err(Into::into)) {
        tracing::warn!(%error, "a group of reads has failed");
    }
}
