//! Recovery codes.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::{
    audit,
    factor_accounts::{count_within, lock_account},
    mails,
};
use crate::model::{audit::Event, mail::NewMail, recovery_code::RecoveryCodeHash};

/// Replaces the codes of an account, and stores the notice about it. Returns false if the account has no factor.
///
/// # Errors
/// If the database fails.
pub async fn replace(
    db: &Db,
    now: Timestamp,
    user_id: Uuid,
    hashes: Vec<RecoveryCodeHash>,
    (event, notice): (Event, Option<NewMail>),
) -> Result<bool, Error> {
    db.write(move |conn| {
        Box::pin(async move {
            lock_account(conn, user_id).await?;
            if count_within(conn, user_id).await? == 0 {
                return Ok(false);
            }
            replace_within(conn, user_id, &hashes).await?;
            audit::insert(conn, now, user_id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(true)
        })
    })
    .await
}

/// Replaces the codes of an account within a transaction.
///
/// # Errors
/// If the database fails.
pub async fn replace_within(conn: &mut Conn, user_id: Uuid, hashes: &[RecoveryCodeHash]) -> Result<(), Error> {
    const INSERT: &str = "insert into recovery_codes (user_id, hash, used_at) values ($1, $2, null)";
    delete_all_within(conn, user_id).await?;
    for hash in hashes {
        conn.execute(INSERT, args![user_id, hash.as_str()]).await?;
    }
    Ok(())
}

/// Uses a code within a transaction. Returns false if the account has no such code, or it was used.
///
/// # Errors
/// If the database fails.
pub async fn use_within(
    conn: &mut Conn,
    now: Timestamp,
    user_id: Uuid,
    hash: &RecoveryCodeHash,
) -> Result<bool, Error> {
    const UPDATE: &str = "
        update recovery_codes set used_at = $3 where user_id = $1 and hash = $2 and used_at is null";
    Ok(conn.execute(UPDATE, args![user_id, hash.as_str(), now]).await? > 0)
}

/// Deletes the codes of an account within a transaction, and returns how many there were.
///
/// # Errors
/// If the database fails.
pub async fn delete_all_within(conn: &mut Conn, user_id: Uuid) -> Result<u64, Error> {
    conn.execute("delete from recovery_codes where user_id = $1", args![user_id]).await
}
