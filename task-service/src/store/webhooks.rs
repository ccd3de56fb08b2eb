//! The webhooks of an owner. Module `webhook_writes` has the writes of the owner, `webhook_queue` those of the sender, and
//! `webhook_attempts` the attempts.

use service_kit::{
    args,
    clock::Timestamp,
    db::{self, Db, FromRow, Row},
    status::ApiError,
};
use uuid::Uuid;

use crate::{
    error::webhook_not_found,
    model::webhook::{Attempt, SealedSecrets, WebhookRow},
};

/// The columns of a [`WebhookRow`], in the order in which they are read.
pub(super) const COLUMNS: &str = "owner_id, id, create_time, update_time, revision, pause_time, position, sync_token, \
    message_end, generation, failures, failing_since, sealed_secret, sealed_previous, previous_until, url, filter";

impl FromRow for WebhookRow {
    fn from_row(row: &mut Row<'_>) -> Result<Self, db::Error> {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            create_time: row.next()?,
            update_time: row.next()?,
            revision: row.next()?,
            pause_time: row.next()?,
            position: row.next()?,
            sync_token: row.next()?,
            message_end: row.next()?,
            generation: row.next()?,
            failures: row.next()?,
            failing_since: row.next()?,
            secrets: SealedSecrets { current: row.next()?, previous: row.next()?, previous_until: row.next()? },
            url: row.next()?,
            filter: row.next()?,
        })
    }
}

/// Returns a webhook.
///
/// # Errors
/// WEBHOOK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, id: Uuid) -> Result<WebhookRow, ApiError> {
    db.fetch_optional(select(), args![owner, id]).await?.ok_or_else(webhook_not_found)
}

/// Returns the statement for one webhook.
pub(super) fn select() -> db::Sql {
    db::QueryBuilder::new(format!("select {COLUMNS} from webhooks where owner_id = $1 and id = $2"))
        .build_with_cache(true)
        .0
}

/// Returns at most `limit` webhooks, newest first, starting after the webhook `after` if it is set.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list(
    db: &Db,
    owner: Uuid,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<WebhookRow>, db::Error> {
    let select = format!(
        "select {COLUMNS} from webhooks where owner_id = $1 and ($2 is null or id < $2) order by id desc limit $3"
    );
    let (select, _) = db::QueryBuilder::new(select).build_with_cache(true);
    db.fetch_all(select, args![owner, after, i64::try_from(limit).unwrap_or(i64::MAX)]).await
}

/// An attempt with its number among those of the webhook.
pub(crate) struct NumberedAttempt {
    pub(crate) number: i64,
    pub(crate) attempt: Attempt,
}

impl FromRow for NumberedAttempt {
    /// Reads `number, attempt_time, http_status, latency, message_id, error`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, db::Error> {
        let (number, time, http_status, latency) =
            (row.next()?, row.next()?, row.next::<Option<i64>>()?, row.next::<i64>()?);
        let http_status = http_status.and_then(|status| u16::try_from(status).ok());
        let latency = std::time::Duration::from_micros(latency.unsigned_abs());
        let attempt = Attempt { time, http_status, latency, message_id: row.next()?, error: row.next()? };
        Ok(Self { number, attempt })
    }
}

/// Returns at most `limit` attempts of a webhook since an instant, newest first, starting after the attempt `after` if it
/// is set.
///
/// # Errors
/// Those of the database.
pub(crate) async fn list_attempts(
    db: &Db,
    owner: Uuid,
    id: Uuid,
    since: Timestamp,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<NumberedAttempt>, db::Error> {
    const LIST: &str = "
        select number, attempt_time, http_status, latency, message_id, error from webhook_attempts
        where owner_id = $1 and webhook_id = $2 and attempt_time >= $3 and number < $4 order by number desc limit $5";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.fetch_all(LIST, args![owner, id, since, after.unwrap_or(i64::MAX), limit]).await
}
