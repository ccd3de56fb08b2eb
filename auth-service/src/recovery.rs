//! Prepares a database that was restored from a backup.

use service_kit::{
    clock::{Clock, Timestamp},
    db::Migrate,
    epoch::Epoch,
    random,
};

use crate::{
    config::DatabaseArgs,
    store::{epoch, feed, installation},
};

/// Begins a new epoch of a restored database. All users have to log in again: the database may contain sessions that were
/// revoked after the backup, and does not know those that began later. Tokens of both are refused. Returns how many
/// sessions were revoked. Takes up to a second, after which new tokens are accepted.
///
/// # Errors
/// If the database does not exist, its tables are not those of this program, or it fails.
pub async fn begin_epoch(database: &DatabaseArgs, clock: &Clock) -> anyhow::Result<u64> {
    let db = database.for_maintenance().open_existing_with(Migrate::Never).await?;
    let now = clock.now();
    // The claim `iat` has whole seconds.
    let issued_before = Timestamp::from_seconds(now.as_seconds() + 1);
    let begun = epoch::begin(&db, now, issued_before, random::id()).await;
    db.close().await;
    let revoked = begun?;
    tokio::time::sleep(issued_before.since(clock.now())).await;
    Ok(revoked)
}

/// Returns the epoch of a database, or `None` if no server has used it yet.
///
/// # Errors
/// If the database does not exist or fails.
pub async fn read_epoch(database: &DatabaseArgs) -> anyhow::Result<Option<Epoch>> {
    let db = database.open_existing_with(Migrate::Unchecked).await?;
    let position = feed::position(&db).await;
    db.close().await;
    Ok(position?.epoch.map(Epoch::from))
}

/// Makes a database accept new secrets at the next start of the server, because the earlier ones are lost.
///
/// # Errors
/// If the database does not exist or fails.
pub async fn forget_secrets(database: &DatabaseArgs) -> anyhow::Result<()> {
    let db = database.open_existing_with(Migrate::Never).await?;
    let forgotten = installation::forget(&db).await;
    db.close().await;
    Ok(forgotten?)
}
