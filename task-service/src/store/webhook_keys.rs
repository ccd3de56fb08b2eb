//! The keys that encrypt the secrets of webhooks.

use service_kit::{
    args,
    db::{Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use crate::model::webhook::SealedSecrets;

/// The secrets of a webhook.
pub(crate) struct SecretsRow {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) secrets: SealedSecrets,
}

impl FromRow for SecretsRow {
    /// Reads `owner_id, id, sealed_secret, sealed_previous, previous_until`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (owner_id, id) = (row.next()?, row.next()?);
        let secrets = SealedSecrets { current: row.next()?, previous: row.next()?, previous_until: row.next()? };
        Ok(Self { owner_id, id, secrets })
    }
}

/// Returns the secrets of at most `limit` webhooks after one, in the order of their keys, that another key than the one
/// with this id has encrypted.
///
/// # Errors
/// Those of the database.
pub(crate) async fn sealed_with_others(
    db: &Db,
    key_id: &str,
    (owner, id): (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<SecretsRow>, Error> {
    // Null if there is no previous secret.
    const SELECT: &str = "
        select owner_id, id, sealed_secret, sealed_previous, previous_until from webhooks
        where (owner_id, id) > ($1, $2)
            and (substr(sealed_secret, 1, length($3)) <> $3 or substr(sealed_previous, 1, length($3)) <> $3)
        order by owner_id, id limit $4";
    // A sealed secret begins with the id of its key and a dot.
    let values = args![owner, id, format!("{key_id}."), limit];
    db.read(ReadKind::Scan, |conn| Box::pin(async move { conn.fetch_all(SELECT, values).await })).await
}

/// Replaces the secrets of a webhook with the same ones, encrypted by another key, unless they were changed before.
///
/// # Errors
/// Those of the database.
pub(crate) async fn replace(db: &Db, old: SecretsRow, new: SealedSecrets) -> Result<(), Error> {
    const UPDATE: &str = "
        update webhooks set sealed_secret = $4, sealed_previous = $5, previous_until = $6
        where owner_id = $1 and id = $2 and sealed_secret = $3";
    let SecretsRow { owner_id, id, secrets } = old;
    let values = args![owner_id, id, secrets.current, new.current, new.previous, new.previous_until];
    db.execute(UPDATE, values).await.map(drop)
}

/// Returns the ids of all keys that have encrypted secrets.
///
/// # Errors
/// Those of the database.
pub(crate) async fn key_ids(db: &Db) -> Result<Vec<String>, Error> {
    // The ids of sealing keys have 8 characters.
    const SELECT: &str = "
        select substr(sealed_secret, 1, 8) from webhooks
        union select substr(sealed_previous, 1, 8) from webhooks where sealed_previous is not null";
    db.fetch_all(SELECT, args![]).await
}
