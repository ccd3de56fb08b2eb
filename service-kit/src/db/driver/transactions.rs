//! Transactions, and savepoints within them.

use std::future::{Future, ready};

use sqlx::SqlStr;
use sqlx_core::transaction::{
    TransactionManager, begin_ansi_transaction_sql, commit_ansi_transaction_sql, rollback_ansi_transaction_sql,
};

use super::{Rusqlite, RusqliteConnection};

/// Begins and ends transactions.
#[derive(Debug)]
pub struct RusqliteTransactions;

impl TransactionManager for RusqliteTransactions {
    type Database = Rusqlite;

    fn begin(
        connection: &mut RusqliteConnection,
        statement: Option<SqlStr>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send + '_ {
        let begin = match statement {
            Some(_) if connection.depth > 0 => return ready(Err(sqlx::Error::InvalidSavePointStatement)),
            Some(statement) => statement,
            None => begin_ansi_transaction_sql(connection.depth),
        };
        ready(connection.run(begin, 0).map(|_| connection.depth += 1))
    }

    fn commit(connection: &mut RusqliteConnection) -> impl Future<Output = sqlx::Result<()>> + Send + '_ {
        ready(connection.end(commit_ansi_transaction_sql))
    }

    fn rollback(connection: &mut RusqliteConnection) -> impl Future<Output = sqlx::Result<()>> + Send + '_ {
        ready(connection.end(rollback_ansi_transaction_sql))
    }

    fn start_rollback(connection: &mut RusqliteConnection) {
        // Where it fails, there is no transaction any more.
        _ = connection.end(rollback_ansi_transaction_sql);
    }

    fn get_transaction_depth(connection: &RusqliteConnection) -> usize {
        connection.depth
    }
}

impl RusqliteConnection {
    fn end(&mut self, how: fn(usize) -> SqlStr) -> sqlx::Result<()> {
        if self.depth > 0 {
            self.run(how(self.depth), 0)?;
            self.depth -= 1;
        }
        Ok(())
    }
}
