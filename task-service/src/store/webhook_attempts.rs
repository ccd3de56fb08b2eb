//! The last attempts to send messages of webhooks. Module `webhooks` lists them.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::webhooks::NumberedAttempt;
use crate::model::webhook::{Attempt, MAX_ATTEMPTS};

/// Stores an attempt outside of the order of messages, unless the webhook has been deleted.
///
/// # Errors
/// Those of the database.
pub(crate) async fn insert(db: &Db, owner: Uuid, id: Uuid, attempt: Attempt) -> Result<(), Error> {
    const COUNT: &str =
        "update webhooks set attempts = attempts + 1 where owner_id = $1 and id = $2 returning attempts";
    db.write(move |conn| {
        Box::pin(async move {
            match conn.fetch_optional::<i64>(COUNT, args![owner, id]).await? {
                Some(number) => insert_within(conn, owner, id, NumberedAttempt { number, attempt }).await,
                None => Ok(()),
            }
        })
    })
    .await
}

/// Stores an attempt with its number, and deletes the oldest ones.
///
/// # Errors
/// Those of the database.
pub(super) async fn insert_within(
    conn: &mut Conn,
    owner: Uuid,
    id: Uuid,
    numbered: NumberedAttempt,
) -> Result<(), Error> {
    const INSERT: &str = "
        insert into webhook_attempts (owner_id, webhook_id, number, attempt_time, http_status, latency, message_id, error)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    const FORGET: &str = "delete from webhook_attempts where owner_id = $1 and webhook_id = $2 and number <= $3";
    let NumberedAttempt { number, attempt } = numbered;
    let latency = i64::try_from(attempt.latency.as_micros()).unwrap_or(i64::MAX);
    let values = args![
        owner,
        id,
        number,
        attempt.time,
        attempt.http_status.map(i64::from),
        latency,
        attempt.message_id,
        attempt.error
    ];
    conn.execute(INSERT, values).await?;
    conn.execute(FORGET, args![owner, id, number - MAX_ATTEMPTS]).await.map(drop)
}

/// Deletes at most `limit` attempts from before an instant, and returns their number.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_before(db: &Db, before: Timestamp, limit: i64) -> Result<u64, Error> {
    const DELETE: &str = "
        delete from webhook_attempts where (owner_id, webhook_id, number) in (
            select owner_id, webhook_id, number from webhook_attempts where attempt_time < $1 limit $2)";
    db.execute(DELETE, args![before, limit]).await
}
