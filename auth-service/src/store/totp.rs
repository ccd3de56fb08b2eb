//! The secrets of authenticator apps, and the time steps of their codes that were used.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, Row},
};
use uuid::Uuid;

use super::{
    audit,
    factor_accounts::{count_within, lock_account},
    login_attempts::{self, Attempt},
    mails, recovery_codes,
    rollback::{self, Rollback},
};
use crate::model::{
    audit::Event,
    factor::{CONFIRMATION_PERIOD, Factor, MAX_FACTORS, SealedTotp},
    mail::NewMail,
    recovery_code::RecoveryCodeHash,
};

impl FromRow for SealedTotp {
    /// Reads `id, user_id, sealed_secret, last_step`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { factor_id: row.next()?, user_id: row.next()?, sealed_secret: row.next()?, last_step: row.next()? })
    }
}

/// Returns the secrets of the authenticator apps of an account, at most [`MAX_FACTORS`].
///
/// # Errors
/// If the database fails.
pub async fn secrets(db: &Db, user_id: Uuid) -> Result<Vec<SealedTotp>, Error> {
    const SELECT: &str = "
        select id, user_id, sealed_secret, last_step from factors where user_id = $1 and confirmed_at is not null";
    db.fetch_all(SELECT, args![user_id]).await
}

/// The outcome of a new factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It was stored.
    Inserted,
    /// The account has too many factors.
    TooMany,
    /// The account was disabled or deleted.
    NoAccount,
}

/// Stores the secret of an authenticator app that is not confirmed, and deletes other such secrets of the account.
/// `sealed_with` is the id of the key that has encrypted it.
///
/// # Errors
/// If the database fails.
pub async fn insert(
    db: &Db,
    now: Timestamp,
    totp: SealedTotp,
    label: String,
    sealed_with: String,
) -> Result<Insertion, Error> {
    const DELETE: &str = "delete from factors where user_id = $1 and confirmed_at is null";
    const INSERT: &str = "
        insert into factors (id, user_id, label, sealed_secret, sealed_with, created_at, confirmed_at, last_step,
            last_used_at)
        select $1, id, $3, $4, $5, $6, null, $7, null from users where id = $2 and not disabled";
    db.write(move |conn| {
        Box::pin(async move {
            let SealedTotp { factor_id, user_id, sealed_secret, last_step } = totp;
            lock_account(conn, user_id).await?;
            if count_within(conn, user_id).await? >= MAX_FACTORS {
                return Ok(Insertion::TooMany);
            }
            conn.execute(DELETE, args![user_id]).await?;
            let values = args![factor_id, user_id, label, sealed_secret, sealed_with, now, last_step];
            let is_inserted = conn.execute(INSERT, values).await? > 0;
            Ok(if is_inserted { Insertion::Inserted } else { Insertion::NoAccount })
        })
    })
    .await
}

/// Returns a secret that can be confirmed.
///
/// # Errors
/// If the database fails.
pub async fn unconfirmed(db: &Db, now: Timestamp, user_id: Uuid, id: Uuid) -> Result<Option<SealedTotp>, Error> {
    const SELECT: &str = "
        select id, user_id, sealed_secret, last_step from factors
        where id = $1 and user_id = $2 and confirmed_at is null and created_at > $3";
    db.fetch_optional(SELECT, args![id, user_id, now - CONFIRMATION_PERIOD]).await
}

/// The outcome of a confirmation.
#[derive(Clone, Debug)]
pub enum Confirmation {
    /// The authenticator app is a factor now. True if the recovery codes were stored, because it is the only one.
    Confirmed(Factor, bool),
    /// It was confirmed, replaced or deleted concurrently.
    Gone,
    /// The account has too many factors.
    TooMany,
    /// The counter of wrong passwords has reached its limit since the attempt was permitted.
    Throttled,
}

/// What is stored with a confirmation.
pub struct ConfirmationRecords {
    /// The recovery codes of the account, if it is the first factor.
    pub recovery_codes: Vec<RecoveryCodeHash>,
    /// The attempt with the code, if attempts are throttled.
    pub attempt: Option<Attempt>,
    /// The event.
    pub event: Event,
    /// The notice to the owner.
    pub notice: Option<NewMail>,
}

/// Makes an authenticator app a factor, by the code of a time step, which cannot be used again.
///
/// # Errors
/// If the database fails.
pub async fn confirm(
    db: &Db,
    now: Timestamp,
    (user_id, id, step): (Uuid, Uuid, i64),
    records: ConfirmationRecords,
) -> Result<Confirmation, Error> {
    const UPDATE: &str = "
        update factors set confirmed_at = $4, last_step = $3
        where id = $1 and user_id = $2 and confirmed_at is null and created_at > $5 and last_step < $3
        returning id, 'TOTP', label, created_at, last_used_at";
    rollback::write(db, move |conn| {
        Box::pin(async move {
            let ConfirmationRecords { recovery_codes, attempt, event, notice } = records;
            lock_account(conn, user_id).await?;
            if let Some(attempt) = &attempt
                && !login_attempts::record_success_within(conn, now, attempt).await?
            {
                return Ok(Confirmation::Throttled);
            }
            let count = count_within(conn, user_id).await?;
            if count >= MAX_FACTORS {
                return Err(Rollback::Outcome(Confirmation::TooMany));
            }
            let values = args![id, user_id, step, now, now - CONFIRMATION_PERIOD];
            let confirmed: Option<Factor> = conn.fetch_optional(UPDATE, values).await?;
            let Some(factor) = confirmed else { return Err(Rollback::Outcome(Confirmation::Gone)) };
            if count == 0 {
                recovery_codes::replace_within(conn, user_id, &recovery_codes).await?;
            }
            audit::insert(conn, now, user_id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(Confirmation::Confirmed(factor, count == 0))
        })
    })
    .await
}

/// Uses the code of a time step within a transaction. Returns false if it, or that of a later step, was used before.
///
/// # Errors
/// If the database fails.
pub async fn use_within(
    conn: &mut Conn,
    now: Timestamp,
    user_id: Uuid,
    (factor_id, step): (Uuid, i64),
) -> Result<bool, Error> {
    const UPDATE: &str = "
        update factors set last_step = $3, last_used_at = $4
        where id = $1 and user_id = $2 and confirmed_at is not null and last_step < $3";
    Ok(conn.execute(UPDATE, args![factor_id, user_id, step, now]).await? > 0)
}
