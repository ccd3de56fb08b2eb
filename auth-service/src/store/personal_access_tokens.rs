//! Personal access tokens, and their sessions.

use ipnet::IpNet;
use service_kit::{
    args,
    auth::personal_access_token::PersonalAccessToken,
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, Row},
};
use uuid::Uuid;

use super::{
    audit,
    revocations::{RevocationReason, SessionSelector, revoke_within},
};
use crate::model::{
    audit::Event,
    personal_access_token::{
        LastUse, MAX_TOKENS, StoredToken, networks_from_stored, networks_to_stored, scopes_from_stored,
    },
};

impl FromRow for StoredToken {
    /// Reads `id, session_id, label, scopes, networks, created_at, expires_at, last_used_day, last_used_address`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (id, session_id, label) = (row.next()?, row.next()?, row.next()?);
        let (scopes, networks): (String, String) = (row.next()?, row.next()?);
        Ok(Self {
            id,
            session_id,
            label,
            scopes: scopes_from_stored(&scopes),
            networks: networks_from_stored(&networks).ok_or(Error::RowNotFound)?,
            created_at: row.next()?,
            expires_at: row.next()?,
            last_use: LastUse { day: row.next()?, address: row.next()? },
        })
    }
}

/// The account and the hash of an active token.
#[derive(Clone, Debug)]
pub struct ActiveToken {
    /// The account.
    pub user_id: Uuid,
    /// The roles of the account.
    pub roles: Vec<String>,
    /// The hash of the token.
    pub hash: String,
    /// The token.
    pub token: StoredToken,
}

impl FromRow for ActiveToken {
    /// Reads `user_id, roles, hash`, followed by the columns of [`StoredToken`].
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        let (user_id, roles, hash) = (row.next()?, row.next::<String>()?, row.next()?);
        let roles = roles.split_whitespace().map(str::to_owned).collect();
        Ok(Self { user_id, roles, hash, token: StoredToken::from_row(row)? })
    }
}

/// Creates a token and its session. Returns `None` if the account has reached its limit, or was disabled or deleted.
///
/// # Errors
/// If the database fails.
pub async fn insert(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    new: StoredToken,
    secret: PersonalAccessToken,
    event: Event,
) -> Result<Option<StoredToken>, Error> {
    const COUNT: &str = "
        select count(*) from personal_access_tokens tokens join sessions on sessions.id = tokens.session_id
        where tokens.user_id = $1 and revoked_at is null and sessions.expires_at > $2";
    const INSERT: &str = "
        insert into personal_access_tokens (id, user_id, session_id, label, hash, scopes, networks, created_at, expires_at,
            last_used_day, last_used_address)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, null, '')";
    db.write(move |conn| {
        Box::pin(async move {
            lock_account(conn, user_id).await?;
            let count: i64 = conn.fetch_one(COUNT, args![user_id, now]).await?;
            if count >= MAX_TOKENS || !insert_session(conn, now, user_id, &new).await? {
                return Ok(None);
            }
            let (scopes, networks) = (new.scopes.to_string(), networks_to_stored(&new.networks));
            let (id, session_id, label) = (new.id, new.session_id, new.label.clone());
            let values = args![id, user_id, session_id, label, secret.hash, scopes, networks, now, new.expires_at];
            conn.execute(INSERT, values).await?;
            audit::insert(conn, now, user_id, &event).await?;
            Ok(Some(new))
        })
    })
    .await
}

/// Prevents that concurrent calls exceed the limit together, and that an account is deleted while a session of it is
/// inserted. SQLite does not need the lock: it has a single writer.
async fn lock_account(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    if conn.engine() == Engine::Postgres {
        conn.execute("select 1 from users where id = $1 for update", args![user_id]).await?;
    }
    Ok(())
}

/// Inserts the session of a token. Reports whether the account is enabled.
async fn insert_session(conn: &mut Conn, now: Timestamp, user_id: Uuid, token: &StoredToken) -> Result<bool, Error> {
    const INSERT: &str = "
        insert into sessions (id, user_id, label, user_agent, ip_address, generation, created_at, rotated_at,
            previous_rotated_at, expires_at, ends_at, revoked_at, reused, revocation, personal_access_token)
        select $1, id, '', '', '', 0, $3, $3, $3, $4, $4, null, false, null, true
        from users where id = $2 and not disabled";
    Ok(conn.execute(INSERT, args![token.session_id, user_id, now, token.expires_at]).await? > 0)
}

/// Returns the active tokens of an account, newest first.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db, now: Timestamp, user_id: Uuid) -> Result<Vec<StoredToken>, Error> {
    const SELECT: &str = "
        select tokens.id, session_id, tokens.label, scopes, networks, tokens.created_at, tokens.expires_at, last_used_day,
            last_used_address
        from personal_access_tokens tokens join sessions on sessions.id = tokens.session_id
        where tokens.user_id = $1 and revoked_at is null and sessions.expires_at > $2 order by tokens.id desc";
    db.fetch_all(SELECT, args![user_id, now]).await
}

/// Returns an active token of an account.
///
/// # Errors
/// If the database fails.
pub async fn get(db: &Db, now: Timestamp, user_id: Uuid, id: Uuid) -> Result<Option<StoredToken>, Error> {
    db.fetch_optional(SELECT_ONE, args![user_id, now, id]).await
}

const SELECT_ONE: &str = "
    select tokens.id, session_id, tokens.label, scopes, networks, tokens.created_at, tokens.expires_at, last_used_day,
        last_used_address
    from personal_access_tokens tokens join sessions on sessions.id = tokens.session_id
    where tokens.user_id = $1 and revoked_at is null and sessions.expires_at > $2 and tokens.id = $3";

/// Returns an active token of an enabled account.
///
/// # Errors
/// If the database fails.
pub async fn by_id(db: &Db, now: Timestamp, id: Uuid) -> Result<Option<ActiveToken>, Error> {
    const SELECT: &str = "
        select tokens.user_id, roles, hash, tokens.id, session_id, tokens.label, scopes, networks, tokens.created_at,
            tokens.expires_at, last_used_day, last_used_address
        from personal_access_tokens tokens
            join sessions on sessions.id = tokens.session_id
            join users on users.id = tokens.user_id
        where tokens.id = $1 and revoked_at is null and sessions.expires_at > $2 and not disabled";
    db.fetch_optional(SELECT, args![id, now]).await
}

/// Stores the last use of a token.
///
/// # Errors
/// If the database fails.
pub async fn record_use(db: &Db, id: Uuid, last_use: LastUse) -> Result<(), Error> {
    const UPDATE: &str = "update personal_access_tokens set last_used_day = $2, last_used_address = $3 where id = $1";
    db.execute(UPDATE, args![id, last_use.day, last_use.address]).await.map(drop)
}

/// A change of a token.
#[derive(Clone, Debug)]
pub enum Change {
    /// Replaces the label and the networks, those that are set.
    Update {
        /// The new label.
        label: Option<String>,
        /// The new networks.
        networks: Option<Vec<IpNet>>,
    },
    /// Replaces the secret.
    Rotate(PersonalAccessToken),
    /// Deletes the token.
    Delete,
}

/// Changes an active token. If more than its label changes, `new_session` replaces its session, so that verifiers forget
/// the token. Returns the token after the change, or before it if it was deleted; `None` if there is no such token.
///
/// # Errors
/// If the database fails.
pub async fn change(
    db: &Db,
    now: Timestamp,
    (user_id, id): (Uuid, Uuid),
    change: Change,
    new_session: Uuid,
    event: Event,
) -> Result<Option<StoredToken>, Error> {
    const UPDATE: &str = "
        update personal_access_tokens set label = $2, networks = $3, session_id = $4, hash = coalesce($5, hash)
        where id = $1";
    const DELETE: &str = "delete from personal_access_tokens where id = $1";
    db.write(move |conn| {
        Box::pin(async move {
            lock_account(conn, user_id).await?;
            let stored: Option<StoredToken> = conn.fetch_optional(SELECT_ONE, args![user_id, now, id]).await?;
            let Some(mut token) = stored else { return Ok(None) };
            let (old_session, old_networks) = (token.session_id, token.networks.clone());
            let (is_deletion, hash) = match change {
                Change::Update { label, networks } => {
                    token.label = label.unwrap_or(token.label);
                    token.networks = networks.unwrap_or(token.networks);
                    (false, None)
                }
                Change::Rotate(secret) => (false, Some(secret.hash)),
                Change::Delete => (true, None),
            };
            let ends_session = is_deletion || hash.is_some() || token.networks != old_networks;
            if is_deletion {
                conn.execute(DELETE, args![id]).await?;
            } else {
                if ends_session {
                    token.session_id = new_session;
                    insert_session(conn, now, user_id, &token).await?;
                }
                let networks = networks_to_stored(&token.networks);
                conn.execute(UPDATE, args![id, token.label.clone(), networks, token.session_id, hash]).await?;
            }
            if ends_session {
                let selector = SessionSelector::Session(old_session);
                revoke_within(conn, now, selector, RevocationReason::Requested).await?;
            }
            audit::insert(conn, now, user_id, &event).await?;
            Ok(Some(token))
        })
    })
    .await
}

/// Deletes all tokens of an account within the transaction that deletes the account.
///
/// # Errors
/// If the database fails.
pub async fn delete_all_within(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    conn.execute("delete from personal_access_tokens where user_id = $1", args![user_id]).await.map(drop)
}
