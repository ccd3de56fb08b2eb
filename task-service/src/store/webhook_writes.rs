//! The writes of the owner of webhooks.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db},
    epoch::Epoch,
    status::ApiError,
    update_mask::RepeatedFields,
};
use uuid::Uuid;

use super::{
    epoch,
    owner_queue::OwnerQueue,
    transaction::{NotCommitted, Outcome, OwnerCounter, check_request, lock_owner, outcome, store_response},
    webhooks::select,
};
use crate::{
    error::{etag_mismatch, quota_exceeded, webhook_not_found},
    model::{
        Revision, Target, later,
        sync::SyncPoint,
        webhook::{LEASE, MAX_WEBHOOKS, ROTATION_PERIOD, WebhookRow},
    },
    request::options::WriteOptions,
    response,
};

/// The owner, the time and the options of a write to a webhook.
pub(crate) struct WebhookWrite {
    pub(crate) owner: Uuid,
    pub(crate) now: Timestamp,
    pub(crate) options: WriteOptions,
    /// The epoch of the etag in the response.
    pub(crate) epoch: Epoch,
    /// Encodes the response, so that it can be replayed. It must contain no secret in clear.
    pub(crate) encode: fn(WebhookRow, Epoch) -> Vec<u8>,
}

/// A webhook to create.
pub(crate) struct NewRow {
    pub(crate) id: Uuid,
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
/// QUOTA_EXCEEDED, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn create(
    db: &Db,
    queue: &OwnerQueue,
    write: WebhookWrite,
    new: NewRow,
    seal: impl FnOnce(SyncPoint) -> String + Send + 'static,
) -> Result<Outcome<WebhookRow>, ApiError> {
    const COUNT: &str = "select count(*) from webhooks where owner_id = $1";
    const INSERT: &str = "
        insert into webhooks (owner_id, id, create_time, update_time, revision, pause_time, due_time, position, sync_token,
            generation, attempts, failures, sealed_secret, url, filter)
        values ($1, $2, $3, $3, $4, $5, $6, $7, $8, 0, 0, 0, $9, $10, $11)";
    let WebhookWrite { owner, now, epoch, .. } = write;
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            // Blocks other creations of the owner until the commit.
            let OwnerCounter { sequence, .. } = lock_owner(conn, owner, 0, now).await?;
            check_request(conn, owner, now, &write.options).await?;
            if conn.fetch_one::<i64>(COUNT, args![owner]).await? >= MAX_WEBHOOKS {
                return Err(quota_exceeded("the account has reached its limit of webhooks").into());
            }
            let since = new.since.unwrap_or_else(|| SyncPoint::end(epoch, sequence));
            let pause_time = new.is_paused.then_some(now);
            let due_time = (!new.is_paused).then_some(now);
            let values = args![
                owner,
                new.id,
                now,
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
            let webhook = find(conn, owner, new.id).await?;
            finish(conn, write, webhook).await
        })
    });
    outcome(written.await)
}

/// A change of a webhook by its owner.
pub(crate) enum WebhookChange {
    /// Values that are `None` stay the same.
    Update { url: Option<String>, filter: Option<String>, is_paused: Option<bool>, repeated: RepeatedFields },
    /// A new encrypted secret.
    Rotate { sealed_secret: String },
    /// A new position, and its sync token.
    Redeliver { position: i64, sync_token: String },
}

impl WebhookChange {
    fn apply(self, webhook: &mut WebhookRow, now: Timestamp) {
        match self {
            Self::Update { url, filter, is_paused, repeated: _ } => {
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
/// WEBHOOK_NOT_FOUND, ETAG_MISMATCH, VALIDATION_FAILED if a repeated field differs, REQUEST_ID_REUSED, and those of the
/// database.
pub(crate) async fn change(
    db: &Db,
    queue: &OwnerQueue,
    write: WebhookWrite,
    target: Target,
    change: WebhookChange,
) -> Result<Outcome<WebhookRow>, ApiError> {
    const UPDATE: &str = "
        update webhooks set update_time = $3, revision = $4, pause_time = $5, position = $6, sync_token = $7,
            message_end = $8, generation = $9, failures = $10, failing_since = $11, sealed_secret = $12,
            sealed_previous = $13, previous_until = $14, url = $15, filter = $16, due_time = case
                when cast($17 as bigint) is null then null
                -- An attempt may be in progress. When it ends, its replica releases the claim.
                when lease is null then $17 else coalesce(due_time, $18) end
        where owner_id = $1 and id = $2";
    let WebhookWrite { owner, now, epoch, .. } = write;
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            let mut webhook = lock(conn, &write, target).await?;
            if let WebhookChange::Update { repeated, .. } = &change {
                repeated.check(&response::webhook(webhook.clone(), epoch))?;
            }
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
            finish(conn, write, webhook).await
        })
    });
    outcome(written.await)
}

/// Deletes a webhook with its attempts, and returns it.
///
/// # Errors
/// WEBHOOK_NOT_FOUND, ETAG_MISMATCH, REQUEST_ID_REUSED, and those of the database.
pub(crate) async fn delete(
    db: &Db,
    queue: &OwnerQueue,
    write: WebhookWrite,
    target: Target,
) -> Result<Outcome<WebhookRow>, ApiError> {
    const ATTEMPTS: &str = "delete from webhook_attempts where owner_id = $1 and webhook_id = $2";
    const WEBHOOK: &str = "delete from webhooks where owner_id = $1 and id = $2";
    let owner = write.owner;
    let written = queue.write(db, owner, move |conn| {
        Box::pin(async move {
            let webhook = lock(conn, &write, target).await?;
            conn.execute(ATTEMPTS, args![owner, target.id]).await?;
            conn.execute(WEBHOOK, args![owner, target.id]).await?;
            finish(conn, write, webhook).await
        })
    });
    outcome(written.await)
}

/// Returns a webhook, which no other transaction can change until the commit. The response to a request that was executed
/// before takes precedence, even if the webhook does not exist any more.
async fn lock(
    conn: &mut Conn,
    write: &WebhookWrite,
    mut target: Target,
) -> Result<WebhookRow, NotCommitted<WebhookRow>> {
    const LOCK: &str = "update webhooks set revision = revision where owner_id = $1 and id = $2";
    let WebhookWrite { owner, now, options, .. } = write;
    conn.execute(LOCK, args![*owner, target.id]).await?;
    check_request(conn, *owner, *now, options).await?;
    let webhook = find(conn, *owner, target.id).await?;
    epoch::check_etags(conn, vec![&mut target]).await?;
    match target.revision {
        Some(revision) if revision != webhook.revision => Err(etag_mismatch().into()),
        _ => Ok(webhook),
    }
}

async fn find(conn: &mut Conn, owner: Uuid, id: Uuid) -> Result<WebhookRow, ApiError> {
    conn.fetch_optional(select(), args![owner, id]).await?.ok_or_else(webhook_not_found)
}

/// Stores the response to a write.
async fn finish(
    conn: &mut Conn,
    write: WebhookWrite,
    webhook: WebhookRow,
) -> Result<WebhookRow, NotCommitted<WebhookRow>> {
    let WebhookWrite { owner, now, options, epoch, encode } = write;
    store_response(conn, owner, now, options, || encode(webhook.clone(), epoch)).await?;
    Ok(webhook)
}
