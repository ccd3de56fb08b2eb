//! Service tokens, and the certificates with which services authenticate instead.

use service_kit::{
    args,
    auth::scope::Scopes,
    clock::Timestamp,
    db::{Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::audit;
use crate::model::{
    audit::Event,
    service_certificate::CertificateName,
    service_token::{MAX_TOKENS, ServiceName, ServiceTokenHash, scopes_from_stored},
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
    /// When the token expires, if it does.
    pub expires_at: Option<Timestamp>,
}

/// A new certificate.
#[derive(Clone, Debug)]
pub struct NewServiceCertificate {
    /// The name in the certificate.
    pub san: CertificateName,
    /// The service.
    pub name: ServiceName,
    /// What the certificate permits.
    pub scopes: Scopes,
}

/// A token or a certificate of a service.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The service.
    pub name: String,
    /// The hash of a token, or the name in a certificate.
    pub kind: CredentialKind,
    /// What it permits.
    pub scopes: Scopes,
    /// When it was added.
    pub create_time: Timestamp,
    /// When it expires, if it does.
    pub expires_at: Option<Timestamp>,
    /// The day of its last use since the Unix epoch, if it was used.
    pub last_used_day: Option<i64>,
}

/// What identifies a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A token.
    Token(ServiceTokenHash),
    /// A certificate.
    Certificate(CertificateName),
}

impl FromRow for Credential {
    /// Reads `name, hash, san, scopes, created_at, expires_at, last_used_day`, of which `hash` or `san` is null.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (name, hash, san) = (row.next()?, row.next::<Option<String>>()?, row.next::<Option<String>>()?);
        let kind = match hash {
            Some(hash) => CredentialKind::Token(ServiceTokenHash(hash)),
            None => CredentialKind::Certificate(CertificateName(san.unwrap_or_default())),
        };
        let scopes: String = row.next()?;
        Ok(Self {
            name,
            kind,
            scopes: scopes_from_stored(&scopes),
            create_time: row.next()?,
            expires_at: row.next()?,
            last_used_day: row.next()?,
        })
    }
}

/// Adds a token. Returns false if there are too many.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, new: NewServiceToken, event: Event) -> Result<bool, Error> {
    const INSERT: &str = "
        insert into service_tokens (hash, name, scopes, created_at, expires_at)
        select $1, $2, $3, $4, $6
        where (select count(*) from service_tokens) + (select count(*) from service_certificates) < $5";
    db.write(move |conn| {
        Box::pin(async move {
            let NewServiceToken { hash, name, scopes, expires_at } = new;
            let values = args![hash.0, name.0, scopes.to_string(), now, MAX_TOKENS, expires_at];
            let is_inserted = conn.execute(INSERT, values).await? > 0;
            if is_inserted {
                audit::insert(conn, now, NO_USER, &event).await?;
            }
            Ok(is_inserted)
        })
    })
    .await
}

/// The outcome of adding a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was added.
    Yes,
    /// There are too many tokens and certificates.
    TooMany,
    /// The name belongs to this service already.
    Taken(String),
}

/// Adds a certificate.
///
/// # Errors
/// If the database fails.
pub async fn insert_certificate(
    db: &Db,
    now: Timestamp,
    new: NewServiceCertificate,
    event: Event,
) -> Result<Inserted, Error> {
    const INSERT: &str = "
        insert into service_certificates (san, name, scopes, created_at)
        select $1, $2, $3, $4
        where (select count(*) from service_tokens) + (select count(*) from service_certificates) < $5
        on conflict (san) do nothing";
    const OWNER: &str = "select name from service_certificates where san = $1";
    db.write(move |conn| {
        Box::pin(async move {
            let NewServiceCertificate { san, name, scopes } = new;
            let values = args![&san.0[..], name.0, scopes.to_string(), now, MAX_TOKENS];
            if conn.execute(INSERT, values).await? > 0 {
                audit::insert(conn, now, NO_USER, &event).await?;
                return Ok(Inserted::Yes);
            }
            let owner: Option<String> = conn.fetch_optional(OWNER, args![san.0]).await?;
            Ok(owner.map_or(Inserted::TooMany, Inserted::Taken))
        })
    })
    .await
}

/// Removes the tokens and the certificates of a service, and returns their number.
///
/// # Errors
/// If the database fails.
pub async fn remove(db: &Db, now: Timestamp, name: ServiceName, event: Event) -> Result<u64, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let tokens = conn.execute("delete from service_tokens where name = $1", args![&name.0[..]]).await?;
            let removed =
                tokens + conn.execute("delete from service_certificates where name = $1", args![name.0]).await?;
            if removed > 0 {
                audit::insert(conn, now, NO_USER, &event.with_detail("tokens", &removed)).await?;
            }
            Ok(removed)
        })
    })
    .await
}

/// Returns all tokens and certificates, by the name of the service.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db) -> Result<Vec<Credential>, Error> {
    const SELECT: &str = "
        select name, hash, null as san, scopes, created_at, expires_at, last_used_day from service_tokens
        union all
        select name, null, san, scopes, created_at, null, last_used_day from service_certificates
        order by name, created_at";
    // Not a scan: there are few of them, and callers wait for them.
    db.read(ReadKind::Point, |conn| Box::pin(async move { conn.fetch_all(SELECT, args![]).await })).await
}

/// Stores the day of the last use of a token or a certificate.
///
/// # Errors
/// If the database fails.
pub async fn record_use(db: &Db, kind: CredentialKind, day: i64) -> Result<(), Error> {
    const TOKEN: &str = "update service_tokens set last_used_day = $2 where hash = $1";
    const CERTIFICATE: &str = "update service_certificates set last_used_day = $2 where san = $1";
    let (update, key) = match kind {
        CredentialKind::Token(hash) => (TOKEN, hash.0),
        CredentialKind::Certificate(san) => (CERTIFICATE, san.0),
    };
    db.execute(update, args![key, day]).await.map(drop)
}
