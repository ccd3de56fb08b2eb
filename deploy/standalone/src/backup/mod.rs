//! Backups of SQLite databases.
//!
//! - `create`: creates a backup while the program serves. `restore`: restores one.
//! - `archive`: the file of a backup. `manifest`: the description of its content.

use std::path::Path;

use service_kit::db::DatabaseUrl;

use crate::config::Configs;

mod archive;
mod create;
mod manifest;
mod restore;

pub use archive::verify;
pub use create::create;
pub use restore::{check_complete, restore};

/// The names of the files in an archive.
const AUTH_DATABASE: &str = "auth.db";
const TASK_DATABASE: &str = "task.db";
const KEYS: &str = "keys.json";
const REFRESH_SECRET: &str = "refresh.secret";
const WEBHOOK_KEY: &str = "webhook.key";

/// Returns the database files of auth-service and task-service.
///
/// # Errors
/// If the databases are on a server.
fn database_files(configs: &Configs) -> anyhow::Result<[&Path; 2]> {
    match (&configs.auth.database.database_url, &configs.task.database.database_url) {
        (DatabaseUrl::Sqlite(auth), DatabaseUrl::Sqlite(task)) => Ok([auth, task]),
        _ => anyhow::bail!(
            "the databases are on a PostgreSQL server: use its tools, pg_dump or continuous archiving, and the command \
             `new-epoch` after a restore"
        ),
    }
}
