//! Database errors, and the API errors that they become.

use std::time::Duration;

use rusqlite::ffi;
use sqlx::postgres::PgDatabaseError;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

use crate::status::ApiError;

/// How long a caller should wait before a retry.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// SQLSTATE classes and codes (PostgreSQL manual, appendix A) after which a connection is not used again: connection
/// exception, invalid authorization, invalid catalog and schema, operator intervention, system error, internal error;
/// read-only transaction, idle transaction timeout and transaction timeout.
const CONNECTION_ERRORS: [&str; 10] = ["08", "28", "3D", "3F", "57", "58", "XX", "25006", "25P03", "25P04"];

/// The statement timeout and cancel requests, which belong to class 57 but leave the connection usable.
const CANCELLED: &str = "57014";

/// Classes of errors that are bugs in this program: unsupported features, cardinality, data and integrity errors,
/// invalid SQL, and errors in functions.
const PROGRAM_ERRORS: [&str; 8] = ["0A", "21", "22", "23", "42", "2F", "38", "P0"];

/// Codes in those classes that an administrator can fix: missing privileges, tables and other objects.
const FIXABLE: [&str; 3] = ["42501", "42P01", "42704"];

/// Primary codes of SQLite after which only the statement has failed: a constraint, invalid SQL (which includes a table
/// that does not exist), and invalid arguments.
const SQLITE_STATEMENT_ERRORS: [i32; 5] =
    [ffi::SQLITE_CONSTRAINT, ffi::SQLITE_ERROR, ffi::SQLITE_MISMATCH, ffi::SQLITE_RANGE, ffi::SQLITE_TOOBIG];

/// Why a call of the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite returned an error code.
    #[error("{message} (SQLite code {code})")]
    Sqlite {
        /// The extended result code; its low byte is the primary one.
        code: i32,
        /// The message of SQLite.
        message: String,
    },
    /// PostgreSQL returned an error, or the connection to it failed.
    #[error(transparent)]
    Postgres(sqlx::Error),
    /// A session of PostgreSQL does not meet the requirements, so it is not used.
    #[error("{0}")]
    Session(String),
    /// A column is missing or has another type than expected.
    #[error("cannot decode a row: {0}")]
    Decode(String),
    /// A statement that must return a row returned none.
    #[error("the statement returned no row")]
    RowNotFound,
    /// The call was not executed in time, or was stopped at its deadline. A write has taken no effect.
    #[error("the database did not respond in time")]
    Timeout,
    /// The write was part of a transaction that failed. It has taken no effect.
    #[error("the transaction failed: {0}")]
    NotCommitted(String),
    /// The connection was lost during the commit, so the write may have taken effect.
    #[error("the connection was lost during the commit: {0}")]
    OutcomeUnknown(String),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// A statement was executed after another one of the same transaction had failed, or the code that ran it panicked.
    #[error("{0}")]
    Bug(&'static str),
}

impl Error {
    /// Reports whether the write violated a unique constraint or a primary key.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite { code, .. } => {
                [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY].contains(code)
            }
            Self::Postgres(_) => self.sqlstate() == "23505",
            _ => false,
        }
    }

    /// Returns the SQLSTATE that PostgreSQL sent (PostgreSQL manual, appendix A), or an empty string.
    pub(super) fn sqlstate(&self) -> &str {
        match self {
            Self::Postgres(sqlx::Error::Database(error)) => {
                error.try_downcast_ref::<PgDatabaseError>().map_or("", PgDatabaseError::code)
            }
            _ => "",
        }
    }

    /// Reports whether only the SQLite statement has failed, at a constraint or because it cannot be executed, so that
    /// the rest of its transaction is not affected. After any other error, such as a full disk, SQLite may have rolled
    /// the whole transaction back.
    pub(super) fn affects_only_statement(&self) -> bool {
        match self {
            Self::Sqlite { code, .. } => SQLITE_STATEMENT_ERRORS.contains(&(code & 0xff)),
            _ => true,
        }
    }

    /// Reports whether SQLite stopped a statement, because its call was cancelled or its time limit had passed.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Sqlite { code, .. } if code & 0xff == ffi::SQLITE_INTERRUPT)
    }

    /// Reports whether no response was received, so that the outcome on the server is unknown.
    pub(super) fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Postgres(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)))
    }

    /// Reports whether a connection that returned this error must not be used again: the server closes it or does not
    /// accept its user any more, or the server cannot execute calls that another server can, after a failover.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            Self::Postgres(sqlx::Error::Database(_)) => {
                let state = self.sqlstate();
                state != CANCELLED && CONNECTION_ERRORS.iter().any(|class| state.starts_with(class))
            }
            Self::Postgres(sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnIndexOutOfBounds { .. }) => false,
            Self::Postgres(_) => true,
            // Constraint violations, interrupts and invalid SQL leave the connection usable.
            Self::Sqlite { code, .. } => {
                ![ffi::SQLITE_CONSTRAINT, ffi::SQLITE_INTERRUPT, ffi::SQLITE_ERROR].contains(&(code & 0xff))
            }
            _ => false,
        }
    }

    /// Reports whether a retry can succeed once the database works again. All other errors are bugs in this program.
    fn is_unavailable(&self) -> bool {
        match self {
            Self::Timeout | Self::NotCommitted(_) | Self::OutcomeUnknown(_) | Self::Closed | Self::Session(_) => true,
            Self::Decode(_) | Self::RowNotFound | Self::Bug(_) => false,
            Self::Sqlite { code, .. } => code & 0xff != ffi::SQLITE_MISUSE && !self.affects_only_statement(),
            Self::Postgres(sqlx::Error::Database(_)) => {
                let state = self.sqlstate();
                FIXABLE.contains(&state) || !PROGRAM_ERRORS.iter().any(|class| state.starts_with(class))
            }
            Self::Postgres(error) => matches!(
                error,
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::Configuration(_)
            ),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::RowNotFound,
            error => Self::Postgres(error),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, message) => {
                Self::Sqlite { code: failure.extended_code, message: message.unwrap_or_else(|| failure.to_string()) }
            }
            error => Self::Decode(error.to_string()),
        }
    }
}

impl From<Error> for ApiError {
    /// UNAVAILABLE / STORE_UNAVAILABLE if a retry can succeed once the database works again; INTERNAL for bugs in this
    /// program.
    fn from(error: Error) -> Self {
        if !error.is_unavailable() {
            return Self::internal(error);
        }
        tracing::warn!(%error, "the database is not available");
        let message = match &error {
            Error::OutcomeUnknown(_) => {
                "the connection to the database was lost during the commit; the call may have taken effect"
            }
            _ => "the database is not available; the call has taken no effect",
        };
        Self::new(Code::Unavailable, ErrorReason::StoreUnavailable, message).retry_after(RETRY_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_program_errors_become_internal_errors() {
        let code = |code: i32| ApiError::from(Error::Sqlite { code, message: String::new() }).code();
        for unavailable in
            [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY, ffi::SQLITE_CORRUPT]
        {
            assert_eq!(code(unavailable), Code::Unavailable, "{unavailable}");
        }
        for internal in [ffi::SQLITE_ERROR, ffi::SQLITE_CONSTRAINT_NOTNULL, ffi::SQLITE_MISUSE] {
            assert_eq!(code(internal), Code::Internal, "{internal}");
        }
        assert_eq!(ApiError::from(Error::Timeout).code(), Code::Unavailable);
        assert_eq!(ApiError::from(Error::Decode(String::new())).code(), Code::Internal);
    }
}
