//! Which secrets belong to the database.

use std::collections::BTreeSet;

use service_kit::{
    args,
    db::{Conn, Db, Error, QueryBuilder},
};

/// One lock for all who compare and replace. The number has no meaning.
const INSTALLATION_LOCK: i64 = 0x0061_7574_6869_6e01;

/// Identifies secrets without revealing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The fingerprint of the refresh secret.
    pub refresh_fingerprint: String,
    /// The ids of the keys in the key file that have not expired.
    pub key_ids: BTreeSet<String>,
    /// The ids of the keys in the key file that have expired: the keys that the others have replaced.
    pub expired_key_ids: BTreeSet<String>,
}

/// Why secrets do not belong to a database.
#[derive(Debug)]
pub enum Mismatch {
    /// It was used with another refresh secret.
    RefreshSecret,
    /// It was used with other keys, none of which is in the key file.
    Keys,
    /// The database failed.
    Database(Error),
}

impl From<Error> for Mismatch {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Reports whether the database has been used with a refresh secret.
///
/// # Errors
/// Those of the database.
pub async fn has_refresh_secret(db: &Db) -> Result<bool, Error> {
    let found: Option<i64> = db.fetch_optional("select id from installation where id = 1", args![]).await?;
    Ok(found.is_some())
}

/// Checks that the secrets belong to the database, and stores the ids of the keys if others are stored. A new database
/// accepts any secrets.
///
/// A key file belongs to the database if it contains a key that is stored. The ids of its keys then replace those that
/// are stored, so that a rotation (old, then old and new, then new) is accepted step by step, and a copy of the file
/// that has missed all of it is refused. A key that has expired in the file counts, too: the rotation may be over
/// before a server starts again. It is not stored, so that two files that were rotated independently do not meet in it.
///
/// # Errors
/// Why they do not belong to it. Nothing is changed then.
pub async fn check(db: &Db, secrets: Secrets) -> Result<(), Mismatch> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(INSTALLATION_LOCK).await?;
            let stored = "select refresh_secret_fingerprint from installation where id = 1";
            let fingerprint: Option<String> = conn.fetch_optional(stored, args![]).await?;
            let has_fingerprint = fingerprint.is_some();
            if fingerprint.is_some_and(|fingerprint| fingerprint != secrets.refresh_fingerprint) {
                return Err(Mismatch::RefreshSecret);
            }
            let stored_ids: Vec<String> = conn.fetch_all("select id from signing_keys", args![]).await?;
            let stored_ids: BTreeSet<_> = stored_ids.into_iter().collect();
            let is_known = |id| secrets.key_ids.contains(id) || secrets.expired_key_ids.contains(id);
            if !stored_ids.is_empty() && !stored_ids.iter().any(is_known) {
                return Err(Mismatch::Keys);
            }
            if has_fingerprint && stored_ids == secrets.key_ids {
                return Ok(());
            }
            Ok(store(conn, &secrets).await?)
        })
    })
    .await
}

/// Makes the database belong to these secrets, whatever it was used with before.
///
/// # Errors
/// Those of the database.
pub async fn adopt(db: &Db, secrets: Secrets) -> Result<(), Error> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(INSTALLATION_LOCK).await?;
            store(conn, &secrets).await
        })
    })
    .await
}

async fn store(conn: &mut Conn, secrets: &Secrets) -> Result<(), Error> {
    const FINGERPRINT: &str = "
        insert into installation (id, refresh_secret_fingerprint) values (1, $1)
        on conflict (id) do update set refresh_secret_fingerprint = excluded.refresh_secret_fingerprint";
    conn.execute(FINGERPRINT, args![&secrets.refresh_fingerprint]).await?;
    conn.execute("delete from signing_keys", args![]).await?;
    let mut insert = QueryBuilder::new("insert into signing_keys (id)");
    insert.push_values(secrets.key_ids.iter().map(|id| args![id]));
    let (sql, values) = insert.build();
    conn.execute(sql, values).await.map(drop)
}
