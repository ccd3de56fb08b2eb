//! Prepares a database that was restored from a backup.

use service_kit::{
    db::{DatabaseUrl, Db, Error, Migrate},
    epoch::Epoch,
    random,
};

use crate::{
    config::DatabaseArgs,
    store::{epoch, webhook_queue},
};

/// Begins a new epoch of a restored database: sync tokens, page tokens and etags of the lost history are refused, and
/// webhooks start again with all tasks when the server starts, because their receivers may have changes that were lost.
///
/// # Errors
/// If the database does not exist, its tables are not those of this program, or it fails.
pub async fn begin_epoch(database: &DatabaseArgs) -> anyhow::Result<()> {
    let db = open_existing(database, Migrate::Never).await?;
    let begun = async {
        epoch::begin(&db, random::id()).await?;
        webhook_queue::mark_all_due(&db).await
    };
    let begun = begun.await;
    db.close().await;
    Ok(begun?)
}

/// Returns the epoch of a database, or `None` if no server has used it yet.
///
/// # Errors
/// If the database does not exist or fails.
pub async fn read_epoch(database: &DatabaseArgs) -> anyhow::Result<Option<Epoch>> {
    let db = open_existing(database, Migrate::Unchecked).await?;
    let epoch = epoch::read(&db).await;
    db.close().await;
    match epoch {
        Ok(id) => Ok(Some(id.into())),
        Err(Error::RowNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a database as [`DatabaseArgs::open`], but creates no file.
///
/// # Errors
/// As [`DatabaseArgs::open`], or if the database file does not exist.
pub(crate) async fn open_existing(database: &DatabaseArgs, migrate: Migrate) -> anyhow::Result<Db> {
    if let DatabaseUrl::Sqlite(path) = &database.database_url {
        anyhow::ensure!(path.exists(), "there is no database {}", path.display());
    }
    database.open(migrate).await
}
