//! Passkeys, and the handles of their owners.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use uuid::Uuid;

use super::{audit, login_challenges, mails};
use crate::{
    model::{
        audit::Event,
        factor::Factor,
        mail::NewMail,
        passkey::{Passkey, PasskeyUse},
        passkey_challenge::PasskeyChallenge,
    },
    webauthn::options::Descriptor,
};

impl FromRow for Passkey {
    /// Reads `id, user_id, user_handle, public_key, sign_count`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            user_id: row.next()?,
            user_handle: decode(row.next_text()?)?,
            public_key: decode(row.next_text()?)?,
            sign_count: row.next::<i64>()?.try_into().map_err(|_| Error::RowNotFound)?,
        })
    }
}

impl FromRow for Descriptor {
    /// Reads `credential_id, transports`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { id: decode(row.next_text()?)?, transports: row.next()? })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    BASE64.decode(text).map_err(|_| Error::RowNotFound)
}

/// Returns the handle of an account. The first call stores `candidate`. Returns `None` if the account was deleted.
///
/// # Errors
/// If the database fails.
pub async fn user_handle(db: &Db, user_id: Uuid, candidate: [u8; 32]) -> Result<Option<Vec<u8>>, Error> {
    // The update changes nothing, but returns the row that exists.
    const UPSERT: &str = "
        insert into passkey_users (user_id, user_handle) select id, $2 from users where id = $1
        on conflict (user_id) do update set user_handle = passkey_users.user_handle
        returning user_handle";
    let handle: Option<String> = db.execute_returning(UPSERT, args![user_id, BASE64.encode(candidate)]).await?;
    handle.map(|handle| decode(&handle)).transpose()
}

/// Returns the id of the site to which all passkeys belong. `None` if there are no passkeys.
///
/// # Errors
/// If the database fails.
pub async fn site(db: &Db) -> Result<Option<String>, Error> {
    const SELECT: &str = "select rp_id from passkey_site where id = 1 and exists (select 1 from passkeys)";
    db.fetch_optional(SELECT, args![]).await
}

/// Returns the credentials of the passkeys of an account.
///
/// # Errors
/// If the database fails.
pub async fn descriptors(db: &Db, user_id: Uuid) -> Result<Vec<Descriptor>, Error> {
    db.fetch_all("select credential_id, transports from passkeys where user_id = $1 order by id", args![user_id]).await
}

/// Returns the passkey with a credential.
///
/// # Errors
/// If the database fails.
pub async fn by_credential(db: &Db, credential_id: &[u8]) -> Result<Option<Passkey>, Error> {
    const SELECT: &str = "
        select passkeys.id, passkeys.user_id, user_handle, public_key, sign_count
        from passkeys join passkey_users on passkey_users.user_id = passkeys.user_id
        where credential_id = $1";
    db.fetch_optional(SELECT, args![BASE64.encode(credential_id)]).await
}

/// Uses a passkey within a transaction. Returns false if its challenge was used, it was deleted, or its signature counter
/// has reached the received one in the meantime.
///
/// # Errors
/// If the database fails.
pub async fn use_within(conn: &mut Conn, now: Timestamp, user_id: Uuid, used: &PasskeyUse) -> Result<bool, Error> {
    const UPDATE: &str = "
        update passkeys set sign_count = $3, backup_eligible = $4, backed_up = $5, last_used_at = $6
        where id = $1 and user_id = $2 and (sign_count = 0 or $3 = 0 or sign_count < $3)";
    let PasskeyUse { passkey_id, challenge, verified } = used;
    if !login_challenges::complete_within(conn, challenge.id, challenge.expires_at).await? {
        return Ok(false);
    }
    let (eligible, backed_up) = (verified.backup_eligible, verified.backed_up);
    let values = args![*passkey_id, user_id, i64::from(verified.sign_count), eligible, backed_up, now];
    Ok(conn.execute(UPDATE, values).await? > 0)
}

/// Records that a passkey may have been copied, and stores the notice about it. `refused` is the challenge if the response
/// to it is refused; it is used by this. Records nothing and returns false if it was used before: then the response was only
/// sent again.
///
/// # Errors
/// If the database fails.
pub async fn record_suspicion(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    refused: Option<PasskeyChallenge>,
    (event, notice): (Event, Option<NewMail>),
) -> Result<bool, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            if let Some(challenge) = refused
                && !login_challenges::complete_within(conn, challenge.id, challenge.expires_at).await?
            {
                return Ok(false);
            }
            audit::insert(conn, now, user_id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(true)
        })
    })
    .await
}

/// Changes the label of a passkey within a transaction. Returns `None` if the account has no such passkey.
///
/// # Errors
/// If the database fails.
pub async fn rename_within(
    conn: &mut Conn,
    (user_id, id): (Uuid, Uuid),
    label: String,
) -> Result<Option<Factor>, Error> {
    const UPDATE: &str = "
        update passkeys set label = $3 where id = $1 and user_id = $2
        returning id, 'PASSKEY', label, created_at, last_used_at";
    conn.fetch_optional(UPDATE, args![id, user_id, label]).await
}

/// Deletes a passkey within a transaction. Returns false if the account has no such passkey.
///
/// # Errors
/// If the database fails.
pub async fn delete_within(conn: &mut Conn, (user_id, id): (Uuid, Uuid)) -> Result<bool, Error> {
    let deleted = conn.execute("delete from passkeys where id = $1 and user_id = $2", args![id, user_id]).await?;
    Ok(deleted > 0)
}

/// Deletes all passkeys of an account within a transaction.
///
/// # Errors
/// If the database fails.
pub async fn delete_all_within(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    conn.execute("delete from passkeys where user_id = $1", args![user_id]).await.map(drop)
}

/// Deletes the handle of an account within the transaction that deletes the account.
///
/// # Errors
/// If the database fails.
pub async fn delete_user_handle_within(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    conn.execute("delete from passkey_users where user_id = $1", args![user_id]).await.map(drop)
}
