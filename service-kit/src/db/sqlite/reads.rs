//! Reads that share a trip to a thread and a look at the file.

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

/// How many reads share a trip at most: the first of them waits for the last.
const MAX_GROUP: usize = 32;

/// A read that waits for its turn, and tells its caller by itself what has come of it.
pub(super) type Read = Box<dyn FnOnce(&mut RusqliteConnection) + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_read(read: impl FnOnce(&mut RusqliteConnection) + Send + 'static) -> Read {
    Box::new(read)
}

/// Sends all reads that wait to a reader that is free, for as long as there is anybody who could ask. Waking a thread takes
/// longer than most reads, and so do the locks that a look at the file takes.
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
        spawn_blocking(move || run(held, group));
    }
}

/// Runs a group in one transaction. A connection that cannot begin or end one is not used again, and its reads are dropped.
fn run(mut held: Held<RusqliteConnection>, group: Vec<Read>) {
    let ran = at_once(async {
        let mut look = held.connection().begin().await?;
        for read in group {
            // A read that panics drops what its caller waits for.
            _ = catch_unwind(AssertUnwindSafe(|| read(&mut look)));
        }
        look.commit().await
    });
    if let Err(error) = held.give_back(ran.map_err(Into::into)) {
        tracing::warn!(%error, "a group of reads has failed");
    }
}
