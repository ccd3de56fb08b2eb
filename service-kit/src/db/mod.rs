//! One handle for both engines. A query is written once and compiled for each, through the macros
//! [`db_read!`](crate::db_read), [`db_look_up!`](crate::db_look_up), [`db_write!`](crate::db_write),
//! [`db_transaction!`](crate::db_transaction) and [`db_attempt!`](crate::db_attempt).

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{error::ErrorKind, migrate::Migrator, postgres::PgConnectOptions};
use taskey_proto::errors::v1::ErrorReason;
use tokio::time::timeout;
use tonic::Code;

use crate::{config::PoolArgs, status::Refusal};

pub mod driver;
mod pool;
pub mod postgres;
mod queries;
pub mod sqlite;

pub use postgres::Postgres;
pub use sqlite::Sqlite;

/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A database with the tables of one service.
#[derive(Clone, Debug)]
pub enum Db {
    /// A file.
    Sqlite(Sqlite),
    /// A schema on a server.
    Postgres(Postgres),
}

impl Db {
    /// Opens the database of a service and brings its tables up to date. On `PostgreSQL` they are in the schema
    /// `schema`, so that one database can hold several services.
    ///
    /// # Errors
    /// If the database cannot be reached, is damaged, or its tables are newer than this program. Nothing has been
    /// changed then.
    pub async fn open(
        url: &DatabaseUrl,
        schema: &'static str,
        migrations: &Migrator,
        args: &PoolArgs,
    ) -> anyhow::Result<Self> {
        match url {
            DatabaseUrl::Sqlite(path) => Ok(Self::Sqlite(Sqlite::open(path, migrations, args).await?)),
            DatabaseUrl::Postgres(options) => {
                Ok(Self::Postgres(Postgres::open(options, schema, migrations, args).await?))
            }
        }
    }

    /// Looks whether [`open`](Self::open) would succeed, and changes nothing. A file or a schema that is not there yet
    /// is good.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn inspect(url: &DatabaseUrl, schema: &'static str, migrations: &Migrator) -> anyhow::Result<()> {
        match url {
            DatabaseUrl::Sqlite(path) => sqlite::inspect(path, migrations).await,
            DatabaseUrl::Postgres(options) => postgres::inspect(options, schema, migrations).await,
        }
    }

    /// Calls `woken` whenever somebody announces something on `channel`, for as long as it is awaited. It is a hint and
    /// no more: while the connection is broken, announcements are missed. `SQLite` has none.
    pub async fn listen(&self, channel: &'static str, woken: impl FnMut()) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(db) => db.listen(channel, woken).await,
        }
    }

    /// Closes the connections, and gives up on those that a server does not let go.
    pub async fn close(&self) {
        let close = async {
            match self {
                Self::Sqlite(db) => db.close().await,
                Self::Postgres(db) => db.close().await,
            }
        };
        if timeout(CLOSE_LIMIT, close).await.is_err() {
            tracing::warn!("the database did not let its connections go");
        }
    }
}

/// `sqlite:PATH` or `postgres://...`.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(std::path::PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err("a SQLite database needs a file: sqlite:PATH".to_owned()),
                path if path.contains('?') => Err("sqlite:PATH takes no parameters".to_owned()),
                path => Ok(Self::Sqlite(path.into())),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The error might quote the password.
            return match url.parse() {
                Ok(options) => Ok(Self::Postgres(Box::new(options))),
                Err(_) => Err("not a usable postgres:// URL".to_owned()),
            };
        }
        Err("expected sqlite:PATH or postgres://...".to_owned())
    }
}

impl fmt::Debug for DatabaseUrl {
    /// Without the password of a server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => write!(f, "postgres://{}:{}", options.get_host(), options.get_port()),
        }
    }
}

/// Why a call of the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What sqlx says.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// The write was in a transaction that others shared and that came to nothing.
    #[error("the shared commit failed: {0}")]
    Commit(String),
    /// The call took longer than the settings allow.
    #[error("the database did not answer in time")]
    Timeout,
}

impl Error {
    /// Whether the write would have made a second row with the same key.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.kind() == ErrorKind::UniqueViolation)
    }
}

impl From<Error> for Refusal {
    /// A database that cannot be reached, is full or does not answer may recover: UNAVAILABLE / STORE_UNAVAILABLE.
    /// Anything else is a fault of ours.
    fn from(error: Error) -> Self {
        let unavailable = match &error {
            Error::Timeout | Error::Commit(_) => true,
            Error::Sqlx(error) => is_unavailable(error),
        };
        if !unavailable {
            return Self::internal(error);
        }
        tracing::warn!(%error, "the database is not available");
        Self::new(Code::Unavailable, ErrorReason::StoreUnavailable, "the database does not answer")
            .retry_after(Duration::from_secs(1))
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            // PostgreSQL, appendix A: connection exception, insufficient resources, operator intervention, system
            // error, read-only (a server that is failing over), a transaction that took too long (we had stopped),
            // serialization failure and deadlock.
            Some(error) => ["08", "53", "57", "58", "25006", "25P03", "25P04", "40"]
                .iter()
                .any(|class| error.code().starts_with(class)),
            // SQLite result codes: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN. The primary code is the low byte.
            None => error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14)),
        },
        _ => false,
    }
}

/// A migration that has been carried out on a database.
#[derive(sqlx::FromRow)]
pub(crate) struct Applied {
    version: i64,
    checksum: Vec<u8>,
}

/// Whether the migrations that a database has had are those of this program, or the first of them.
pub(crate) fn compare(applied: Vec<Applied>, migrations: &Migrator) -> anyhow::Result<()> {
    use sqlx::migrate::MigrateError;
    for done in applied {
        let known = migrations.iter().find(|known| known.version == done.version);
        let known = known.ok_or_else(|| explain(MigrateError::VersionMissing(done.version)))?;
        if *known.checksum != *done.checksum {
            return Err(explain(MigrateError::VersionMismatch(done.version)));
        }
    }
    Ok(())
}

/// Says in one line what is wrong with the tables of a database.
pub(crate) fn explain(error: sqlx::migrate::MigrateError) -> anyhow::Error {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::VersionMissing(version) => {
            anyhow::anyhow!("its tables are newer (version {version}) than this program; nothing was changed")
        }
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!("its tables (version {version}) are not those of this program; nothing was changed")
        }
        error => error.into(),
    }
}

/// Runs a call within the time limit.
///
/// # Errors
/// As the call, and [`Error::Timeout`].
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    timeout(limit, call).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
}
