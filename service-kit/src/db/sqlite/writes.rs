//! Writes that share a commit.

use sqlx::{Connection, error::ErrorKind, query};
use tokio::sync::{mpsc, oneshot};

use super::at_once;
use crate::db::driver::{RusqliteConnection, RusqliteOptions};

/// How many writes share a commit at most.
const MAX_BATCH: usize = 256;

/// What a write consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One statement, which takes effect as a whole or not at all.
    Statement,
    /// Several statements, which need a savepoint for that.
    Several,
}

/// What the writer is asked for.
pub(super) enum Job {
    Write(Write),
    /// To carry out what has been asked for before, and end.
    Close(oneshot::Sender<()>),
}

/// A write that waits for its turn.
pub(super) struct Write {
    pub(super) shape: Shape,
    pub(super) run: Run,
}

pub(super) type Run = Box<dyn FnOnce(&mut RusqliteConnection) -> Done + Send>;

/// Tells the compiler that the closure takes a connection of any lifetime.
pub(super) fn as_run(run: impl FnOnce(&mut RusqliteConnection) -> Done + Send + 'static) -> Run {
    Box::new(run)
}

/// A write that has run and is not committed yet.
pub(super) struct Done {
    /// The write failed by its own fault, or by one that spoils the whole transaction.
    pub(super) fault: Option<Fault>,
    /// Tells the caller how it ended, when the commit has succeeded or has come to nothing for the reason given.
    pub(super) acknowledge: Box<dyn FnOnce(Result<(), String>) + Send>,
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    Own,
    Shared(String),
}

impl Fault {
    /// A statement that violates a constraint takes no effect and leaves the transaction as it was. After any other
    /// error (a full disk, say) `SQLite` may have rolled the whole transaction back.
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::Own,
            sqlx::Error::Database(error) if error.kind() != ErrorKind::Other => Self::Own,
            error => Self::Shared(error.to_string()),
        }
    }
}

/// The one writer, on a thread of its own: takes all writes that wait, runs them in one transaction, commits, and only
/// then acknowledges them. It ends when it is told to, or nobody is left who could ask for anything.
pub(super) fn commit_in_groups(options: &RusqliteOptions, mut queue: mpsc::Receiver<Job>) {
    let (mut connection, mut jobs, mut closing) = (None, Vec::with_capacity(MAX_BATCH), Vec::new());
    while closing.is_empty() && queue.blocking_recv_many(&mut jobs, MAX_BATCH) > 0 {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Write(write) => batch.push(write),
                Job::Close(closed) => closing.push(closed),
            }
        }
        let mut done = Vec::with_capacity(batch.len());
        let committed = commit(options, &mut connection, batch, &mut done);
        if let Err(error) = &committed {
            tracing::warn!(%error, "a group of writes could not be committed");
        }
        let committed = committed.map_err(|error| error.to_string());
        for write in done {
            (write.acknowledge)(committed.clone());
        }
    }
    drop((connection, queue));
    for closed in closing {
        // Nobody need wait for it.
        _ = closed.send(());
    }
}

/// Runs a batch in one transaction. After a fault that undoes it, the connection is closed: `SQLite` may have rolled
/// back by itself, and then nobody knows any more how many transactions are open on it. What did not get its turn is not
/// worth another try: the fault is the database's.
fn commit(
    options: &RusqliteOptions,
    kept: &mut Option<RusqliteConnection>,
    batch: Vec<Write>,
    done: &mut Vec<Done>,
) -> Result<(), sqlx::Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => options.open()?,
    };
    at_once(commit_on(&mut connection, batch, done))?;
    *kept = Some(connection);
    Ok(())
}

/// A write that fails by its own fault fails alone; any other fault undoes the whole batch.
async fn commit_on(
    connection: &mut RusqliteConnection,
    batch: Vec<Write>,
    done: &mut Vec<Done>,
) -> Result<(), sqlx::Error> {
    let mut group = connection.begin_with("begin immediate").await?;
    for write in batch {
        let several = write.shape == Shape::Several;
        if several {
            query("savepoint write").execute(&mut *group).await?;
        }
        let outcome = (write.run)(&mut group);
        let fault = outcome.fault.clone();
        done.push(outcome);
        match fault {
            Some(Fault::Shared(reason)) => return Err(sqlx::Error::Protocol(reason)),
            Some(Fault::Own) if several => {
                query("rollback to write").execute(&mut *group).await?;
            }
            _ => {}
        }
        if several {
            query("release write").execute(&mut *group).await?;
        }
    }
    group.commit().await
}
