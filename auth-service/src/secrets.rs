//! Reads the secrets of this program, and checks that they belong to the database.

use std::time::Duration;

use anyhow::bail;
use service_kit::{
    auth::{key_source::KeySource, keys::KeySet},
    clock::Clock,
    db::Db,
};

use crate::{
    config::{DatabaseArgs, SecretArgs},
    model::refresh_token::{RefreshKey, RefreshKeys},
    refresh_secrets::{RefreshKeySource, SecretFile},
    store::installation::{self, CheckError, SecretIds},
};

/// How often the stored ids are compared with the key file, even if it has not changed. The database may have failed
/// when the file changed, and a replica that starts with an older copy of the file stores its ids.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Returns the secrets of the refresh tokens. The first one is created for a new database.
///
/// # Errors
/// If it cannot be read or created, or if the database was used with a secret that is missing.
pub async fn refresh_secrets(db: &Db, args: &SecretArgs) -> anyhow::Result<SecretFile> {
    let file = args.refresh_secret_file();
    // The order matters: a replica that starts at the same time creates the file before it stores the fingerprint.
    let has_refresh_secret = installation::refresh_fingerprint(db).await?.is_some();
    match SecretFile::read(&file)? {
        Some(secrets) => Ok(secrets),
        None if has_refresh_secret => bail!(
            "the database was used with a refresh secret, and {} is missing; restore it, or run \
             `auth-service keys adopt` to create a new one, after which all users have to log in again",
            file.display()
        ),
        None => SecretFile::create(&file),
    }
}

/// Checks that the secrets belong to the database, and stores the ids of the keys.
///
/// # Errors
/// If they do not belong to it. The message says in one line what to do.
pub async fn check(db: &Db, args: &SecretArgs, refresh_keys: &RefreshKeys, keys: &KeySet) -> anyhow::Result<()> {
    let checked = installation::check(db, secret_ids(refresh_keys, keys)).await;
    checked.map_err(|error| match error {
        CheckError::Database(error) => error.into(),
        CheckError::RefreshSecret => anyhow::anyhow!(
            "{} does not contain the refresh secret that the database was used with; give all replicas the same one, or run \
             `auth-service keys adopt` if it was replaced on purpose",
            args.refresh_secret_file().display()
        ),
        CheckError::Keys => anyhow::anyhow!(
            "{} has none of the keys that the database was used with; give all replicas the same keys, or run \
             `auth-service keys adopt` if they were replaced on purpose",
            args.keys.key_file.display()
        ),
    })
}

/// Checks the secrets and stores the ids of the keys, periodically and whenever the key file changes, for as long as it
/// is awaited. A rotation replaces the keys one by one. Logs an error if the secrets no longer belong to the database.
pub async fn follow(db: &Db, args: &SecretArgs, refresh_keys: &RefreshKeySource, keys: &KeySource) {
    let mut changes = keys.subscribe();
    let mut reported = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            Ok(()) = changes.changed() => {}
        }
        let Some(keys) = changes.borrow_and_update().clone() else { continue };
        let problem = check(db, args, &refresh_keys.current(), &keys).await.err().map(|error| format!("{error:#}"));
        if problem != reported
            && let Some(error) = &problem
        {
            tracing::error!(error, "cannot store the ids of the keys");
        }
        reported = problem;
    }
}

/// Makes the database accept the current secrets. A missing refresh secret is created.
///
/// # Errors
/// If they or the database cannot be read.
pub async fn adopt(database: &DatabaseArgs, args: &SecretArgs) -> anyhow::Result<()> {
    let file = args.refresh_secret_file();
    let keys = KeySet::read(&args.keys.key_file, Clock::system().now())?;
    let secrets = SecretFile::read(&file)?;
    let db = database.open_existing().await?;
    let secrets = secrets.map_or_else(|| SecretFile::create(&file), Ok)?;
    installation::adopt(&db, secret_ids(&secrets.keys(), &keys)).await?;
    db.close().await;
    Ok(())
}

fn secret_ids(refresh_keys: &RefreshKeys, keys: &KeySet) -> SecretIds {
    SecretIds {
        refresh_fingerprint: refresh_keys.first().fingerprint(),
        other_refresh_fingerprints: refresh_keys.others().iter().map(RefreshKey::fingerprint).collect(),
        key_ids: keys.ids().into_iter().collect(),
        expired_key_ids: keys.expired_ids().into_iter().collect(),
    }
}
