//! Service tokens.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::{
    audit::Event,
    service_token::{MAX_TOKENS, Scopes, ServiceName, ServiceTokenHash},
};

/// The account of events that belong to no account.
const NO_USER: Uuid = Uuid::nil();

/// A new service token.
#[derive(Clone, Debug)]
pub struct NewServiceToken {
    /// The hash of the token.
    pub hash: ServiceTokenHash,
    /// The service.
    pub name: ServiceName,
    /// What the token permits.
    pub scopes: Scopes,
}

/// A row: the hash of a token, and its scopes.
struct StoredServiceToken(ServiceTokenHash, Scopes);

impl FromRow for StoredServiceToken {
    /// Reads `hash, scopes`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (hash, scopes): (String, String) = (row.next()?, row.next()?);
        Ok(Self(ServiceTokenHash(hash), Scopes::from_stored(&scopes)))
    }
}

/// Adds a token. Returns false if there are too many.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, new: NewServiceToken, event: Event) -> Result<bool, Error> {
    const INSERT: &str = "
        insert into service_tokens (hash, name, scopes, created_at)
        select $1, $2, $3, $4 where (select count(*) from service_tokens) < $5";
    db.write(move |conn| {
        Box::pin(async move {
            let NewServiceToken { hash, name, scopes } = new;
            let values = args![hash.0, name.0, scopes.to_string(), now, MAX_TOKENS];
            let is_inserted = conn.execute(INSERT, values).await? > 0;
            if is_inserted {
                audit::insert(conn, now, NO_USER, &event).await?;
            }
            Ok(is_inserted)
        })
    })
    .await
}

/// Removes the tokens of a service and returns their number.
///
/// # Errors
/// If the database fails.
pub async fn remove(db: &Db, now: Timestamp, name: ServiceName, event: Event) -> Result<u64, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let removed = conn.execute("delete from service_tokens where name = $1", args![name.0]).await?;
            if removed > 0 {
                audit::insert(conn, now, NO_USER, &event.with_detail("tokens", &removed)).await?;
            }
            Ok(removed)
        })
    })
    .await
}

/// Returns the scopes of all tokens by the hash of the token.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db) -> Result<impl Iterator<Item = (ServiceTokenHash, Scopes)>, Error> {
    const SELECT: &str = "select hash, scopes from service_tokens";
    // Not a scan: there are few tokens, and callers wait for them.
    let rows: Vec<StoredServiceToken> =
        db.read(ReadKind::Point, |conn| Box::pin(async move { conn.fetch_all(SELECT, args![]).await })).await?;
    Ok(rows.into_iter().map(|row| (row.0, row.1)))
}
