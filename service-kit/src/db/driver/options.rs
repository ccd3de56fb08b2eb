//! How a file is opened.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use log::LevelFilter;
use rusqlite::{OpenFlags, config::DbConfig};
use sqlx::ConnectOptions;
use sqlx_core::connection::LogSettings;
use tokio::task::spawn_blocking;
use url::Url;

use super::{RusqliteConnection, error::error};

/// How a file is opened. It must be there.
#[derive(Clone, Debug)]
pub struct RusqliteOptions {
    path: PathBuf,
    busy_timeout: Duration,
    pragmas: Vec<(&'static str, &'static str)>,
    pub(super) log: LogSettings,
}

impl RusqliteOptions {
    /// Opens a file as `SQLite` does by itself.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let (busy_timeout, pragmas) = (Duration::ZERO, Vec::new());
        Self { path: path.to_owned(), busy_timeout, pragmas, log: LogSettings::default() }
    }

    /// Waits so long for a lock that another connection holds.
    #[must_use]
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self { busy_timeout, ..self }
    }

    /// Begins with a pragma, after those that have been named before.
    #[must_use]
    pub fn pragma(mut self, name: &'static str, value: &'static str) -> Self {
        self.pragmas.push((name, value));
        self
    }

    /// Opens the file, on this thread.
    ///
    /// # Errors
    /// If it cannot be opened or is no database.
    pub fn open(&self) -> sqlx::Result<RusqliteConnection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = || {
            let connection = rusqlite::Connection::open_with_flags(&self.path, flags)?;
            // Otherwise a statement whose plan might depend on what is bound, as one whose table has a partial index, is
            // prepared anew whenever that is something else.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.busy_timeout(self.busy_timeout)?;
            let mut pragmas = String::new();
            for (name, value) in &self.pragmas {
                // Writing to a string does not fail.
                _ = write!(pragmas, "pragma {name} = {value};");
            }
            connection.execute_batch(&pragmas)?;
            Ok(connection)
        };
        Ok(RusqliteConnection::new(opened().map_err(error)?, self.log.clone()))
    }
}

impl FromStr for RusqliteOptions {
    type Err = sqlx::Error;

    fn from_str(path: &str) -> sqlx::Result<Self> {
        Ok(Self::new(Path::new(path.strip_prefix("sqlite:").unwrap_or(path))))
    }
}

impl ConnectOptions for RusqliteOptions {
    type Connection = RusqliteConnection;

    fn from_url(url: &Url) -> sqlx::Result<Self> {
        url.as_str().parse()
    }

    async fn connect(&self) -> sqlx::Result<RusqliteConnection> {
        let options = self.clone();
        spawn_blocking(move || options.open()).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    fn log_statements(mut self, level: LevelFilter) -> Self {
        self.log.log_statements(level);
        self
    }

    fn log_slow_statements(mut self, level: LevelFilter, duration: Duration) -> Self {
        self.log.log_slow_statements(level, duration);
        self
    }
}
