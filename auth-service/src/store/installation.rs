//! Checks that the secrets of the service are those that the database was used with before.

use std::collections::BTreeSet;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{
    args,
    db::{Conn, Db, Error, QueryBuilder},
};

/// Advisory lock that serializes [`check`] and [`adopt`]. The number is arbitrary.
const INSTALLATION_LOCK: i64 = 0x0061_7574_6869_6e01;

/// Identifies the secrets without revealing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretIds {
    /// The fingerprint of the refresh secret that issues tokens.
    pub refresh_fingerprint: String,
    /// The fingerprints of the other refresh secrets in the file.
    pub other_refresh_fingerprints: BTreeSet<String>,
    /// The ids of the unexpired keys in the key file.
    pub key_ids: BTreeSet<String>,
    /// The ids of the expired keys in the key file. Other keys have replaced them.
    pub expired_key_ids: BTreeSet<String>,
}

/// Why the check of the secrets failed.
#[derive(Debug)]
pub enum CheckError {
    /// The database was used with another refresh secret.
    RefreshSecret,
    /// The database was used with other keys, none of which is in the key file.
    Keys,
    /// The database failed.
    Database(Error),
}

impl From<Error> for CheckError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

const FINGERPRINT: &str = "select refresh_secret_fingerprint from installation where id = 1";

/// Returns the fingerprint of the refresh secret with which the database was used last, if it has been used.
///
/// # Errors
/// If the database fails.
pub async fn refresh_fingerprint(db: &Db) -> Result<Option<String>, Error> {
    db.fetch_optional(FINGERPRINT, args![]).await
}

/// Returns the key of page tokens, which all replicas share. If none is stored yet, stores `derived`.
///
/// # Errors
/// If the database fails, or the stored key is invalid.
pub async fn page_token_key(db: &Db, derived: &[u8; 32]) -> anyhow::Result<[u8; 32]> {
    const INSERT: &str = "insert into page_token_key (id, secret) values (1, $1) on conflict (id) do nothing";
    const SELECT: &str = "select secret from page_token_key where id = 1";
    db.execute(INSERT, args![BASE64_URL_SAFE_NO_PAD.encode(derived)]).await?;
    let stored: Option<String> = db.fetch_optional(SELECT, args![]).await?;
    let key = stored.and_then(|stored| BASE64_URL_SAFE_NO_PAD.decode(stored).ok()?.try_into().ok());
    key.context("the stored key of page tokens is invalid")
}

/// Checks that the secrets belong to the database, and updates the stored key ids. A new database accepts any secrets.
///
/// The file with the refresh secrets belongs to the database if it contains the one whose fingerprint is stored. The
/// fingerprint of the secret that issues tokens then replaces it.
///
/// A key file belongs to the database if it contains at least one key whose id is stored. The ids of its unexpired keys
/// then replace the stored ids. This accepts each step of a rotation (old, then old and new, then new), and rejects a
/// copy of the file that still contains only the old key. Expired keys in the file match as well, because a rotation
/// may be complete before a server restarts. They are not stored: otherwise two files that were rotated independently
/// could match by a common expired key.
///
/// # Errors
/// If the secrets do not belong to the database, or the database fails. The database is then unchanged.
pub async fn check(db: &Db, secrets: SecretIds) -> Result<(), CheckError> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(INSTALLATION_LOCK).await?;
            let fingerprint: Option<String> = conn.fetch_optional(FINGERPRINT, args![]).await?;
            let is_current = fingerprint.as_ref() == Some(&secrets.refresh_fingerprint);
            let is_known = |stored| is_current || secrets.other_refresh_fingerprints.contains(stored);
            if !fingerprint.as_ref().is_none_or(is_known) {
                return Err(CheckError::RefreshSecret);
            }
            let stored_ids: Vec<String> = conn.fetch_all("select id from signing_keys", args![]).await?;
            let stored_ids: BTreeSet<_> = stored_ids.into_iter().collect();
            let is_in_key_file = |id| secrets.key_ids.contains(id) || secrets.expired_key_ids.contains(id);
            if !stored_ids.is_empty() && !stored_ids.iter().any(is_in_key_file) {
                return Err(CheckError::Keys);
            }
            if is_current && stored_ids == secrets.key_ids {
                return Ok(());
            }
            Ok(store(conn, &secrets).await?)
        })
    })
    .await
}

/// Replaces the stored fingerprint and key ids without a check.
///
/// # Errors
/// If the database fails.
pub async fn adopt(db: &Db, secrets: SecretIds) -> Result<(), Error> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(INSTALLATION_LOCK).await?;
            store(conn, &secrets).await
        })
    })
    .await
}

/// Deletes the stored fingerprint and key ids, so that the database accepts any secrets, like a new one.
///
/// # Errors
/// If the database fails.
pub async fn forget(db: &Db) -> Result<(), Error> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.execute("delete from installation", args![]).await?;
            conn.execute("delete from signing_keys", args![]).await.map(drop)
        })
    })
    .await
}

async fn store(conn: &mut Conn, secrets: &SecretIds) -> Result<(), Error> {
    const STORE_FINGERPRINT: &str = "
        insert into installation (id, refresh_secret_fingerprint) values (1, $1)
        on conflict (id) do update set refresh_secret_fingerprint = excluded.refresh_secret_fingerprint";
    conn.execute(STORE_FINGERPRINT, args![&secrets.refresh_fingerprint]).await?;
    conn.execute("delete from signing_keys", args![]).await?;
    let mut insert = QueryBuilder::new("insert into signing_keys (id)");
    insert.push_values(secrets.key_ids.iter().map(|id| args![id]));
    let (sql, values) = insert.build();
    conn.execute(sql, values).await.map(drop)
}
