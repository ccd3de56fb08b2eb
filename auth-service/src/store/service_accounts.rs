//! Service accounts, and the sessions of their access tokens.

use service_kit::{
    args,
    auth::{actor::Actor, scope::Scopes},
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, Row},
};
use uuid::Uuid;

use super::{
    audit, login_attempts,
    revocations::{RevocationReason, SessionSelector, revoke_within},
    user_changes::{self, UserState},
};
use crate::model::{
    audit::Event,
    login_throttle::address_key,
    personal_access_token::{LastUse, scopes_from_stored},
    service_account::{MAX_ACCOUNTS, SecretHash, ServiceAccount, StoredClient, throttle_name},
    service_certificate::CertificateName,
};

impl FromRow for ServiceAccount {
    /// Reads `id, label, scopes, san, previous_expires_at, created_at, last_used_day, last_used_address`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (id, label, scopes) = (row.next()?, row.next()?, row.next::<String>()?);
        Ok(Self {
            id,
            label,
            scopes: scopes_from_stored(&scopes),
            certificate_name: row.next::<Option<String>>()?.map(CertificateName),
            previous_expires_at: row.next()?,
            created_at: row.next()?,
            last_use: LastUse { day: row.next()?, address: row.next()? },
        })
    }
}

impl FromRow for StoredClient {
    /// Reads `hash, previous_hash`, followed by the columns of [`ServiceAccount`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (hash, previous_hash) = (row.next::<Option<String>>()?, row.next::<Option<String>>()?);
        let account = ServiceAccount::from_row(row)?;
        Ok(Self { account, hash: hash.map(SecretHash), previous_hash: previous_hash.map(SecretHash) })
    }
}

/// A new service account.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    /// The primary key.
    pub id: Uuid,
    /// Its name.
    pub label: String,
    /// What its access tokens can permit.
    pub scopes: Scopes,
    /// The name in its certificate, if it authenticates with one.
    pub certificate_name: Option<CertificateName>,
    /// The hash of its secret, if it authenticates with one.
    pub hash: Option<SecretHash>,
}

/// The outcome of adding a service account.
#[derive(Clone, Debug)]
pub enum Inserted {
    /// It was added.
    Yes(ServiceAccount),
    /// There are too many.
    TooMany,
    /// Another one has the name of the certificate.
    CertificateNameTaken,
}

/// Adds a service account.
///
/// # Errors
/// If the database fails.
pub async fn insert(db: &Db, now: Timestamp, new: NewServiceAccount, event: Event) -> Result<Inserted, Error> {
    const INSERT: &str = "
        insert into service_accounts (id, label, scopes, san, hash, created_at, last_used_address)
        select $1, $2, $3, $4, $5, $6, '' where (select count(*) from service_accounts) < $7
        on conflict (san) do nothing
        returning id, label, scopes, san, previous_expires_at, created_at, last_used_day, last_used_address";
    const OWNER: &str = "select id from service_accounts where san = $1";
    db.write(move |conn| {
        Box::pin(async move {
            let NewServiceAccount { id, label, scopes, certificate_name, hash } = new;
            let (san, hash) = (certificate_name.map(|name| name.0), hash.map(|hash| hash.0));
            let values = args![id, label, scopes.to_string(), san.clone(), hash, now, MAX_ACCOUNTS];
            if let Some(account) = conn.fetch_optional::<ServiceAccount>(INSERT, values).await? {
                audit::insert(conn, now, id, &event).await?;
                return Ok(Inserted::Yes(account));
            }
            let owner: Option<Uuid> = conn.fetch_optional(OWNER, args![san]).await?;
            Ok(if owner.is_some() { Inserted::CertificateNameTaken } else { Inserted::TooMany })
        })
    })
    .await
}

/// Returns at most `limit` service accounts, newest first. If `before` is set, returns only older ones.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db, before: Option<Uuid>, limit: usize) -> Result<Vec<ServiceAccount>, Error> {
    const SELECT: &str = "
        select id, label, scopes, san, previous_expires_at, created_at, last_used_day, last_used_address
        from service_accounts where $1 is null or id < $1 order by id desc limit $2";
    db.fetch_all(SELECT, args![before, i64::try_from(limit).unwrap_or(i64::MAX)]).await
}

/// Returns a service account with the hashes of its secrets.
///
/// # Errors
/// If the database fails.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<StoredClient>, Error> {
    const SELECT: &str = "
        select hash, previous_hash, id, label, scopes, san, previous_expires_at, created_at, last_used_day,
            last_used_address
        from service_accounts where id = $1";
    db.fetch_optional(SELECT, args![id]).await
}

/// Replaces the secret of a service account. The old one stays valid until `previous_expires_at`. Without that, the
/// sessions of the service account are revoked. Returns `None` if there is no service account with a secret.
///
/// # Errors
/// If the database fails.
pub async fn rotate(
    db: &Db,
    now: Timestamp,
    id: Uuid,
    hash: SecretHash,
    previous_expires_at: Option<Timestamp>,
    event: Event,
) -> Result<Option<ServiceAccount>, Error> {
    const UPDATE: &str = "
        update service_accounts
        set previous_hash = case when $3 then hash end, previous_expires_at = $4, hash = $2
        where id = $1 and hash is not null
        returning id, label, scopes, san, previous_expires_at, created_at, last_used_day, last_used_address";
    db.write(move |conn| {
        Box::pin(async move {
            let values = args![id, hash.0, previous_expires_at.is_some(), previous_expires_at];
            let account: Option<ServiceAccount> = conn.fetch_optional(UPDATE, values).await?;
            if account.is_some() {
                if previous_expires_at.is_none() {
                    revoke_all(conn, now, id).await?;
                }
                login_attempts::reset_within(conn, &address_key(&throttle_name(id))).await?;
                audit::insert(conn, now, id, &event).await?;
            }
            Ok(account)
        })
    })
    .await
}

/// Deletes a service account, revokes its sessions, and adds this to the list of changes of accounts, because other services
/// may store data of it. Reports whether it existed.
///
/// # Errors
/// If the database fails.
pub async fn delete(db: &Db, now: Timestamp, id: Uuid, event: Event) -> Result<bool, Error> {
    const DELETE: &str = "delete from service_accounts where id = $1 returning label";
    db.write(move |conn| {
        Box::pin(async move {
            let label: Option<String> = conn.fetch_optional(DELETE, args![id]).await?;
            if let Some(label) = &label {
                revoke_all(conn, now, id).await?;
                login_attempts::delete_within(conn, &address_key(&throttle_name(id))).await?;
                user_changes::insert(conn, id, UserState::Deleted).await?;
                audit::insert(conn, now, id, &event.with_detail("label", label)).await?;
            }
            Ok(label.is_some())
        })
    })
    .await
}

async fn revoke_all(conn: &mut Conn, now: Timestamp, id: Uuid) -> Result<(), Error> {
    let selector = SessionSelector::AllOfUser { user_id: id, except: None };
    revoke_within(conn, now, selector, RevocationReason::Requested).await.map(drop)
}

/// Stores the last use of a service account.
///
/// # Errors
/// If the database fails.
pub async fn record_use(db: &Db, id: Uuid, last_use: LastUse) -> Result<(), Error> {
    const UPDATE: &str = "update service_accounts set last_used_day = $2, last_used_address = $3 where id = $1";
    db.execute(UPDATE, args![id, last_use.day, last_use.address]).await.map(drop)
}

/// Creates the session of an access token. Returns false if the service account was deleted, or no longer has this secret.
///
/// # Errors
/// If the database fails.
pub async fn insert_session(
    db: &Db,
    now: Timestamp,
    session_id: Uuid,
    account_id: Uuid,
    secret: Option<SecretHash>,
    expires_at: Timestamp,
) -> Result<bool, Error> {
    // Prevents changes of the service account until the commit, which would not revoke a session that they cannot see yet.
    // SQLite does not need the lock: it has a single writer.
    const LOCK: &str = "select 1 from service_accounts where id = $1 for share";
    const INSERT: &str = "
        insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation)
        select $1, id, '', '', '', 0, $3, $3, $3, $4, $4, null, false, null
        from service_accounts where id = $2 and ($5 is null or hash = $5 or previous_hash = $5)";
    db.write(move |conn| {
        Box::pin(async move {
            if conn.engine() == Engine::Postgres {
                conn.execute(LOCK, args![account_id]).await?;
            }
            let values = args![session_id, account_id, now, expires_at, secret.map(|secret| secret.0)];
            Ok(conn.execute(INSERT, values).await? > 0)
        })
    })
    .await
}

/// Reports whether a session is active and belongs to a service account, and returns the scopes of the service account.
///
/// # Errors
/// If the database fails.
pub async fn by_active_session(
    db: &Db,
    valid_at: Timestamp,
    account_id: Uuid,
    session_id: Uuid,
) -> Result<Option<Scopes>, Error> {
    const SELECT: &str = "
        select scopes from sessions join service_accounts on service_accounts.id = sessions.user_id
        where sessions.id = $1 and sessions.user_id = $2 and revoked_at is null and expires_at > $3";
    let scopes: Option<String> = db.fetch_optional(SELECT, args![session_id, account_id, valid_at]).await?;
    Ok(scopes.map(|scopes| scopes_from_stored(&scopes)))
}

/// Reports whether the sessions of all service accounts that act on behalf of a user are active. Tokens that were issued by
/// earlier versions contain none.
///
/// # Errors
/// If the database fails.
pub async fn have_active_sessions(db: &Db, valid_at: Timestamp, actors: &[Actor]) -> Result<bool, Error> {
    for actor in actors {
        if let Some(session_id) = actor.session_id
            && by_active_session(db, valid_at, actor.id, session_id).await?.is_none()
        {
            return Ok(false);
        }
    }
    Ok(true)
}
