//! Which secrets belong to the database.

use service_kit::{
    args,
    db::{Conn, Db, Error, QueryBuilder},
};

/// One lock for all who compare and replace. The number has no meaning.
const INSTALLATION_LOCK: i64 = 0x0061_7574_6869_6e01;

/// What tells secrets apart without revealing them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The fingerprint of the refresh secret.
    pub refresh_fingerprint: String,
    /// The ids of the keys in the key file.
    pub key_ids: Vec<String>,
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

/// Checks that the secrets belong to the database, and remembers the keys. A new database takes any.
///
/// # Errors
/// Why they do not belong to it. Nothing is changed then.
pub async fn check(db: &Db, secrets: Secrets) -> Result<(), Mismatch> {
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(INSTALLATION_LOCK).await?;
            let stored = "select refresh_secret_fingerprint from installation where id = 1";
            let fingerprint: Option<String> = conn.fetch_optional(stored, args![]).await?;
            if fingerprint.is_some_and(|fingerprint| fingerprint != secrets.refresh_fingerprint) {
                return Err(Mismatch::RefreshSecret);
            }
            let key_ids: Vec<String> = conn.fetch_all("select id from signing_keys", args![]).await?;
            if !key_ids.is_empty() && !key_ids.iter().any(|id| secrets.key_ids.contains(id)) {
                return Err(Mismatch::Keys);
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
