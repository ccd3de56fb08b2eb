//! Second factors.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::{
    audit,
    factor_accounts::{count_within, lock_account},
    mails, passkeys, recovery_codes, totp,
};
use crate::model::{
    audit::{Event, Kind},
    factor::{AvailableFactors, Factor, FactorUse},
    mail::NewMail,
};

/// Returns the factors with which a login to an account can be completed.
///
/// # Errors
/// If the database fails.
pub async fn available(db: &Db, user_id: Uuid) -> Result<AvailableFactors, Error> {
    const SELECT: &str = "
        select (select count(*) from factors where user_id = $1 and confirmed_at is not null),
            (select count(*) from passkeys where user_id = $1),
            (select count(*) from recovery_codes where user_id = $1 and used_at is null)";
    let counts = db.fetch_optional(SELECT, args![user_id]).await?;
    let (totp, passkeys, recovery_codes) = counts.unwrap_or_default();
    Ok(AvailableFactors { totp, passkeys, recovery_codes })
}

/// Returns the factors of an account, newest first.
///
/// # Errors
/// If the database fails.
pub async fn list(db: &Db, user_id: Uuid) -> Result<Vec<Factor>, Error> {
    const SELECT: &str = "
        select id, 'TOTP', label, created_at, last_used_at from factors
        where user_id = $1 and confirmed_at is not null
        union all
        select id, 'PASSKEY', label, created_at, last_used_at from passkeys where user_id = $1
        order by id desc";
    db.fetch_all(SELECT, args![user_id]).await
}

/// Returns a factor of an account.
///
/// # Errors
/// If the database fails.
pub async fn get(db: &Db, (user_id, id): (Uuid, Uuid)) -> Result<Option<Factor>, Error> {
    const SELECT: &str = "
        select id, 'TOTP', label, created_at, last_used_at from factors
        where id = $1 and user_id = $2 and confirmed_at is not null
        union all
        select id, 'PASSKEY', label, created_at, last_used_at from passkeys where id = $1 and user_id = $2";
    db.fetch_optional(SELECT, args![id, user_id]).await
}

/// Changes the label of a factor. Returns `None` if the account has no such factor.
///
/// # Errors
/// If the database fails.
pub async fn rename(
    db: &Db,
    now: Timestamp,
    (user_id, id): (Uuid, Uuid),
    label: String,
    event: Event,
) -> Result<Option<Factor>, Error> {
    const UPDATE: &str = "
        update factors set label = $3 where id = $1 and user_id = $2 and confirmed_at is not null
        returning id, 'TOTP', label, created_at, last_used_at";
    db.write(move |conn| {
        Box::pin(async move {
            let factor: Option<Factor> = conn.fetch_optional(UPDATE, args![id, user_id, label.clone()]).await?;
            let factor = match factor {
                Some(factor) => Some(factor),
                None => passkeys::rename_within(conn, (user_id, id), label).await?,
            };
            if factor.is_some() {
                audit::insert(conn, now, user_id, &event).await?;
            }
            Ok(factor)
        })
    })
    .await
}

/// Deletes a factor, and the recovery codes with the last one. Stores the notice about it. Returns false if the account has
/// no such factor.
///
/// # Errors
/// If the database fails.
pub async fn delete(
    db: &Db,
    now: Timestamp,
    (user_id, id): (Uuid, Uuid),
    (event, notice): (Event, Option<NewMail>),
) -> Result<bool, Error> {
    const DELETE: &str = "delete from factors where id = $1 and user_id = $2 and confirmed_at is not null";
    db.write(move |conn| {
        Box::pin(async move {
            lock_account(conn, user_id).await?;
            let is_totp = conn.execute(DELETE, args![id, user_id]).await? > 0;
            if !is_totp && !passkeys::delete_within(conn, (user_id, id)).await? {
                return Ok(false);
            }
            if count_within(conn, user_id).await? == 0 {
                recovery_codes::delete_all_within(conn, user_id).await?;
            }
            audit::insert(conn, now, user_id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(true)
        })
    })
    .await
}

/// Deletes all factors and recovery codes of an account, and stores the notice about it. Returns how many factors there
/// were.
///
/// # Errors
/// If the database fails.
pub async fn delete_all(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    (event, notice): (Event, Option<NewMail>),
) -> Result<i64, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            lock_account(conn, user_id).await?;
            let count = count_within(conn, user_id).await?;
            delete_all_within(conn, user_id).await?;
            if count > 0 {
                audit::insert(conn, now, user_id, &event).await?;
                mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            }
            Ok(count)
        })
    })
    .await
}

/// Deletes all factors and recovery codes of an account within a transaction.
///
/// # Errors
/// If the database fails.
pub async fn delete_all_within(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    recovery_codes::delete_all_within(conn, user_id).await?;
    passkeys::delete_all_within(conn, user_id).await?;
    conn.execute("delete from factors where user_id = $1", args![user_id]).await.map(drop)
}

/// What [`delete_since_within`] has deleted.
#[derive(Clone, Debug)]
pub struct DeletedFactors {
    /// The factors.
    pub ids: Vec<Uuid>,
    /// The number of recovery codes.
    pub recovery_codes: u64,
}

/// Deletes the factors that were added to an account after `since`, and secrets that are not confirmed, within a transaction.
/// Deletes the recovery codes, if they are newer, or no factor remains. Codes that came with a first factor are as old as
/// the factor, so they are newer only if they were replaced.
///
/// # Errors
/// If the database fails.
pub async fn delete_since_within(conn: &mut Conn, user_id: Uuid, since: Timestamp) -> Result<DeletedFactors, Error> {
    const DELETE_UNCONFIRMED: &str = "delete from factors where user_id = $1 and confirmed_at is null";
    const DELETE_TOTP: &str = "delete from factors where user_id = $1 and confirmed_at > $2 returning id";
    const DELETE_PASSKEYS: &str = "delete from passkeys where user_id = $1 and created_at > $2 returning id";
    lock_account(conn, user_id).await?;
    conn.execute(DELETE_UNCONFIRMED, args![user_id]).await?;
    let mut ids: Vec<Uuid> = conn.fetch_all(DELETE_TOTP, args![user_id, since]).await?;
    ids.extend(conn.fetch_all::<Uuid>(DELETE_PASSKEYS, args![user_id, since]).await?);
    let are_codes_newer = audit::has_happened_within(conn, user_id, Kind::RecoveryCodesRegenerated, since).await?;
    let is_obsolete = are_codes_newer || count_within(conn, user_id).await? == 0;
    let recovery_codes = if is_obsolete { recovery_codes::delete_all_within(conn, user_id).await? } else { 0 };
    Ok(DeletedFactors { ids, recovery_codes })
}

/// Uses a factor within a transaction. Returns false if it was used before, or does not exist.
///
/// # Errors
/// If the database fails.
pub async fn use_within(conn: &mut Conn, now: Timestamp, user_id: Uuid, used: &FactorUse) -> Result<bool, Error> {
    match used {
        FactorUse::Totp { factor_id, step } => totp::use_within(conn, now, user_id, (*factor_id, *step)).await,
        FactorUse::RecoveryCode(hash) => recovery_codes::use_within(conn, now, user_id, hash).await,
        FactorUse::Passkey(used) => passkeys::use_within(conn, now, user_id, used).await,
    }
}
