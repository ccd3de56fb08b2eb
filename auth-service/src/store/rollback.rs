//! Transactions that are rolled back with an outcome that is no error of the database.

use futures::future::BoxFuture;
use service_kit::db::{Conn, Db, Error};

/// Why a transaction is rolled back.
#[derive(Debug)]
pub enum Rollback<T> {
    /// Something that it requires is not the case.
    Outcome(T),
    /// The database has failed.
    Error(Error),
}

impl<T> From<Error> for Rollback<T> {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Executes statements in one transaction, which takes no effect if `work` returns [`Rollback::Outcome`].
///
/// # Errors
/// If the database fails.
pub async fn write<T, F>(db: &Db, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Rollback<T>>> + Send + 'static,
{
    match db.write(work).await {
        Ok(outcome) | Err(Rollback::Outcome(outcome)) => Ok(outcome),
        Err(Rollback::Error(error)) => Err(error),
    }
}
