//! The webhooks of an owner: reads, and the writes of the owner. Module `webhook_queue` has those of the sender.

use service_kit::{
    args,
    clock::Timestamp,
    db::{self, Conn, Db, FromRow, Row},
    epoch::Epoch,
    status::ApiError,
};
use uuid::Uuid;

use super::{
    epoch,
    owner_queue::OwnerQueue,
    transaction::{OwnerCounter, lock_owner},
};
use crate::{
    error::{etag_mismatch, quota_exceeded, webhook_not_found},
    model::{
        Revision, Target, later,
        sync::SyncPoint,
        webhook::{Attempt, LEASE, MAX_WEBHOOKS, ROTATION_PERIOD, SealedSecrets, WebhookRow},
    },
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

/// A webhook to create.
pub(crate) struct NewRow {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) now: Timestamp,
    pub(crate) is_paused: bool,
    /// The position. Without one, it is after the last mutation.
    pub(crate) since: Option<SyncPoint>,
    pub(crate) sealed_secret: String,
    pub(crate) url: String,
    pub(crate) filter: String,
}

/// Creates a webhook. `seal` returns the sync token of its position.
///
/// # Errors
/// QUOTA_EXCEEDED, and those of the database.
pub(crate) async fn create(
    db: &Db,
    queue: &OwnerQueue,
    new: NewRow,
    epoch: Epoch,
    seal: impl FnOnce(SyncPoint) -> String + Send + 'static,
) -> Result<WebhookRow, ApiError> {
    const COUNT: &str = "select count(*) from webhooks where owner_id = $1";
    const INSERT: &str = "
        insert into webhooks (owner_id, id, create_time, update_time, revision, pause_time, due_time, position, sync_token,
            generation, attempts, failures, sealed_secret, url, filter)
        values ($1, $2, $3, $3, $4, $5, $6, $7, $8, 0, 0, 0, $9, $10, $11)";
    let owner = new.owner_id;
    queue
        .write(db, owner, move |conn| {
            Box::pin(async move {
                // Blocks other creations of the owner until the commit.
                let OwnerCounter { sequence, .. } = lock_owner(conn, owner, 0, new.now).await?;
                if conn.fetch_one::<i64>(COUNT, args![owner]).await? >= MAX_WEBHOOKS {
                    return Err(quota_exceeded("the account has reached its limit of webhooks"));
                }
                let since = new.since.unwrap_or_else(|| SyncPoint::end(epoch, sequence));
                let pause_time = new.is_paused.then_some(new.now);
                let due_time = (!new.is_paused).then_some(new.now);
                let values = args![
                    owner,
                    new.id,
                    new.now,
                    Revision::FIRST,
                    pause_time,
                    due_time,
                    since.change,
                    seal(since),
                    new.sealed_secret,
                    new.url,
                    new.filter
                ];
                conn.execute(INSERT, values).await?;
                find(conn, owner, new.id).await
            })
        })
        .await
}

/// Returns a webhook.
///
/// # Errors
/// WEBHOOK_NOT_FOUND, and those of the database.
pub(crate) async fn get(db: &Db, owner: Uuid, id: Uuid) -> Result<WebhookRow, ApiError> {
    db.fetch_optional(select(), args![owner, id]).await?.ok_or_else(webhook_not_found)
}

fn select() -> db::Sql {
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

/// A change of a webhook by its owner.
pub(crate) enum WebhookChange {
    /// Values that are `None` stay the same.
    Update { url: Option<String>, filter: Option<String>, is_paused: Option<bool> },
    /// A new encrypted secret.
    Rotate { sealed_secret: String },
    /// A new position, and its sync token.
    Redeliver { position: i64, sync_token: String },
}

impl WebhookChange {
    fn apply(self, webhook: &mut WebhookRow, now: Timestamp) {
        match self {
            Self::Update { url, filter, is_paused } => {
                if let Some(url) = url {
                    webhook.url = url;
                }
                if let Some(filter) = filter {
                    webhook.filter = filter;
                }
                match is_paused {
                    Some(true) => webhook.pause_time = webhook.pause_time.or(Some(now)),
                    // A webhook that is active already has not succeeded since.
                    Some(false) if webhook.pause_time.take().is_some() => webhook.succeed(),
                    Some(false) | None => {}
                }
            }
            Self::Rotate { sealed_secret } => {
                let previous = std::mem::replace(&mut webhook.secrets.current, sealed_secret);
                webhook.secrets.previous = Some(previous);
                webhook.secrets.previous_until = Some(now + ROTATION_PERIOD);
            }
            Self::Redeliver { position, sync_token } => {
                webhook.advance(position, sync_token);
                webhook.generation += 1;
            }
        }
        (webhook.update_time, webhook.revision) = (later(now, webhook.update_time), webhook.revision.next());
    }
}

/// Changes a webhook. If a replica sends a message meanwhile, it stores nothing of the attempt and then ends its claim, so
/// that the message is sent again with the new values, but not before the attempt has ended.
///
/// # Errors
/// WEBHOOK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn change(
    db: &Db,
    queue: &OwnerQueue,
    owner: Uuid,
    now: Timestamp,
    target: Target,
    change: WebhookChange,
) -> Result<WebhookRow, ApiError> {
    const UPDATE: &str = "
        update webhooks set update_time = $3, revision = $4, pause_time = $5, position = $6, sync_token = $7,
            message_end = $8, generation = $9, failures = $10, failing_since = $11, sealed_secret = $12,
            sealed_previous = $13, previous_until = $14, url = $15, filter = $16, due_time = case
                when cast($17 as bigint) is null then null
                -- An attempt may be in progress. When it ends, its replica releases the claim.
                when lease is null then $17 else coalesce(due_time, $18) end
        where owner_id = $1 and id = $2";
    queue
        .write(db, owner, move |conn| {
            Box::pin(async move {
                let mut webhook = lock(conn, owner, target).await?;
                change.apply(&mut webhook, now);
                let due_time = webhook.pause_time.is_none().then_some(now);
                let (row, secrets) = (&webhook, &webhook.secrets);
                let values = args![
                    owner,
                    row.id,
                    row.update_time,
                    row.revision,
                    row.pause_time,
                    row.position,
                    &row.sync_token,
                    row.message_end.clone(),
                    row.generation,
                    row.failures,
                    row.failing_since,
                    &secrets.current,
                    secrets.previous.clone(),
                    secrets.previous_until,
                    &row.url,
                    &row.filter,
                    due_time,
                    now + LEASE
                ];
                conn.execute(UPDATE, values).await?;
                Ok::<_, ApiError>(webhook)
            })
        })
        .await
}

/// Deletes a webhook with its attempts, and returns it.
///
/// # Errors
/// WEBHOOK_NOT_FOUND, ETAG_MISMATCH, and those of the database.
pub(crate) async fn delete(db: &Db, queue: &OwnerQueue, owner: Uuid, target: Target) -> Result<WebhookRow, ApiError> {
    const ATTEMPTS: &str = "delete from webhook_attempts where owner_id = $1 and webhook_id = $2";
    const WEBHOOK: &str = "delete from webhooks where owner_id = $1 and id = $2";
    queue
        .write(db, owner, move |conn| {
            Box::pin(async move {
                let webhook = lock(conn, owner, target).await?;
                conn.execute(ATTEMPTS, args![owner, target.id]).await?;
                conn.execute(WEBHOOK, args![owner, target.id]).await?;
                Ok::<_, ApiError>(webhook)
            })
        })
        .await
}

/// Returns a webhook, which no other transaction can change until the commit.
async fn lock(conn: &mut Conn, owner: Uuid, mut target: Target) -> Result<WebhookRow, ApiError> {
    const LOCK: &str = "update webhooks set revision = revision where owner_id = $1 and id = $2";
    conn.execute(LOCK, args![owner, target.id]).await?;
    let webhook = find(conn, owner, target.id).await?;
    epoch::check_etags(conn, vec![&mut target]).await?;
    match target.revision {
        Some(revision) if revision != webhook.revision => Err(etag_mismatch()),
        _ => Ok(webhook),
    }
}

async fn find(conn: &mut Conn, owner: Uuid, id: Uuid) -> Result<WebhookRow, ApiError> {
    conn.fetch_optional(select(), args![owner, id]).await?.ok_or_else(webhook_not_found)
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
