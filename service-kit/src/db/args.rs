//! Database settings, which all services share.

use std::time::Duration;

use clap::Args;

use super::{DatabaseUrl, Migrate};
use crate::ops::config::time_limit;

/// Parses the name of a schema: a lower-case SQL identifier of up to 63 characters.
///
/// # Errors
/// If it is invalid, with a message for the user.
pub fn schema_name(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_valid = text.len() <= 63
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("expected up to 63 characters a-z, 0-9 and _, not beginning with a digit".to_owned())
    }
}

/// Database settings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct PoolArgs {
    /// Maximum number of PostgreSQL connections for calls, a quarter of them for long searches; or of SQLite threads for
    /// queries that may return many rows (at most one per core), and half as many for long searches
    #[arg(long, env = "TASKEY_DATABASE_CONNECTIONS", default_value_t = 10, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,

    /// Maximum duration of a database call
    #[arg(long, env = "TASKEY_DATABASE_TIMEOUT", default_value = "2s", value_name = "DURATION",
          value_parser = time_limit)]
    pub database_timeout: Duration,

    /// Direct URL of the PostgreSQL server for migrations and notifications, if the database URL is that of a pooler
    /// [default: the database URL]
    // The URL may contain a password, which `--help` would show.
    #[arg(long, env = "TASKEY_DATABASE_DIRECT_URL", value_name = "URL", hide_env_values = true)]
    pub database_direct_url: Option<DatabaseUrl>,
}

/// How long a call of a command of an operator may take, which may write to all rows of a table.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(3600);

impl PoolArgs {
    /// Returns the settings for a command of an operator, whose calls may write to all rows of a table.
    #[must_use]
    pub fn for_maintenance(&self) -> Self {
        Self { database_timeout: self.database_timeout.max(MAINTENANCE_TIMEOUT), ..self.clone() }
    }
}

/// What a server does with its tables when it starts.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Database")]
pub struct MigrateArgs {
    /// What to do at start with tables that are missing or older than the program. auto: create and migrate them. check:
    /// refuse to start. off: start without comparing the tables with the program
    #[arg(long, env = "TASKEY_MIGRATE", default_value = "auto", value_name = "MODE")]
    pub migrate: Migrate,
}
