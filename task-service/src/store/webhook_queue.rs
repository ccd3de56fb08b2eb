//! The queue of webhooks with changes to send. Replicas claim webhooks for a short time (a lease), so that one of them
//! sends the messages of a webhook. The webhooks of disabled accounts stay idle.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error, FromRow, QueryBuilder, Row, SearchError, Searches, Sql, Value},
};
use uuid::Uuid;

use super::{
    rows::tasks_with_texts,
    webhook_attempts::insert_within,
    webhooks::{COLUMNS, NumberedAttempt},
};
use crate::model::{
    Revision,
    filter::{Filter, SearchColumn, push_filter},
    sync::SyncPoint,
    webhook::{Attempt, LEASE, MAX_DELAY, WebhookRow},
};

/// The key of the advisory lock of statements that lock several webhooks. Without it, two of them could lock the same rows
/// in different orders and deadlock. Statements that disable or enable owners hold it, too. The number is arbitrary.
pub(super) const QUEUE_LOCK: i64 = 0x0074_6173_6b77_6801;

/// The condition that the account of the owner of a row of `webhooks` is not disabled.
const IS_ENABLED: &str =
    "not exists (select 1 from disabled_owners disabled where disabled.owner_id = webhooks.owner_id)";

/// Returns at most `limit` owners with webhooks after `after`, in the order of their ids.
///
/// # Errors
/// Those of the database.
pub(crate) async fn owners_after(db: &Db, after: Uuid, limit: i64) -> Result<Vec<Uuid>, Error> {
    const SELECT: &str = "select distinct owner_id from webhooks where owner_id > $1 order by owner_id limit $2";
    db.fetch_all(SELECT, args![after, limit]).await
}

/// Makes the webhooks of owners due, unless they are already, their next attempt is later, or the account is disabled.
///
/// # Errors
/// Those of the database.
pub(crate) async fn mark_due(db: &Db, now: Timestamp, owners: Vec<Uuid>) -> Result<(), Error> {
    let mut update = QueryBuilder::new("update webhooks set due_time = ");
    update.push_bind(now).push(" where due_time is null and pause_time is null and owner_id in ").push_ids(owners);
    update.push(" and ").push(IS_ENABLED);
    let (sql, values) = update.build();
    update_queue(db, sql, values).await.map(drop)
}

/// Makes all active webhooks due that are not, because the positions of all have expired. Those of disabled accounts become
/// due when these are enabled.
///
/// # Errors
/// Those of the database.
pub(crate) async fn mark_all_due(db: &Db) -> Result<(), Error> {
    let update =
        format!("update webhooks set due_time = 0 where due_time is null and pause_time is null and {IS_ENABLED}");
    let (update, _) = QueryBuilder::new(update).build();
    db.execute(update, args![]).await.map(drop)
}

/// Makes at most `limit` webhooks due whose owners have changes that were not sent, and returns their number.
///
/// # Errors
/// Those of the database.
pub(crate) async fn mark_behind(db: &Db, now: Timestamp, limit: i64) -> Result<u64, Error> {
    const UPDATE: &str = "
        update webhooks set due_time = $1 where due_time is null and pause_time is null and (owner_id, id) in (
            select webhook.owner_id, webhook.id from webhooks webhook
            join owners owner on owner.owner_id = webhook.owner_id
            where webhook.due_time is null and webhook.pause_time is null and webhook.position <> owner.last_change
                and not exists (select 1 from disabled_owners disabled where disabled.owner_id = webhook.owner_id)
            limit $2)";
    update_queue(db, UPDATE, args![now, limit]).await
}

/// Updates several webhooks, and returns their number.
async fn update_queue(db: &Db, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, Error> {
    let sql = sql.into();
    db.write(move |conn| {
        Box::pin(async move {
            conn.advisory_lock(QUEUE_LOCK).await?;
            conn.execute(sql, values).await
        })
    })
    .await
}

/// Makes at most `limit` webhooks due whose time is later than any delay, and returns their number. The clock was set back
/// since, and they would wait until it has reached that time again.
///
/// # Errors
/// Those of the database.
pub(crate) async fn mark_postponed(db: &Db, now: Timestamp, limit: i64) -> Result<u64, Error> {
    const UPDATE: &str = "
        update webhooks set due_time = $1, lease = null where due_time > $2 and (owner_id, id) in (
            select owner_id, id from webhooks where due_time > $2 limit $3)";
    update_queue(db, UPDATE, args![now, now + MAX_DELAY, limit]).await
}

/// The webhooks that a replica has claimed.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) webhooks: Vec<WebhookRow>,
    /// Whether no other webhook is due.
    pub(crate) is_last: bool,
}

/// A webhook that was due. It was claimed, unless the account is disabled.
struct DueWebhook {
    webhook: WebhookRow,
    lease: Option<Uuid>,
}

impl FromRow for DueWebhook {
    /// Reads the columns of a webhook, and `lease`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { webhook: WebhookRow::from_row(row)?, lease: row.next()? })
    }
}

/// Claims webhooks that are due, until [`LEASE`] has passed. Those of disabled accounts become idle instead. There are at
/// most `limit` of both.
///
/// # Errors
/// Those of the database.
pub(crate) async fn claim(db: &Db, now: Timestamp, lease: Uuid, limit: i64) -> Result<Claims, Error> {
    const DUE: &str = "select owner_id from webhooks where due_time <= $1 limit 1";
    // Most calls find nothing, and need not write.
    if db.fetch_optional::<Uuid>(DUE, args![now]).await?.is_none() {
        return Ok(Claims { is_last: true, ..Claims::default() });
    }
    db.write(move |conn| Box::pin(claim_within(conn, now, lease, limit))).await
}

async fn claim_within(conn: &mut Conn, now: Timestamp, lease: Uuid, limit: i64) -> Result<Claims, Error> {
    conn.advisory_lock(QUEUE_LOCK).await?;
    let update = format!(
        "update webhooks set
            lease = case when {IS_ENABLED} then $1 end,
            due_time = case when {IS_ENABLED} then cast($2 as bigint) end
        where due_time <= $3 and (owner_id, id) in (
            select owner_id, id from webhooks where due_time <= $3 order by due_time limit $4)
        returning {COLUMNS}, lease"
    );
    let (update, _) = QueryBuilder::new(update).build_with_cache(true);
    let due: Vec<DueWebhook> = conn.fetch_all(update, args![lease, now + LEASE, now, limit]).await?;
    let is_last = i64::try_from(due.len()).is_ok_and(|count| count < limit);
    let webhooks = due.into_iter().filter(|due| due.lease.is_some()).map(|due| due.webhook).collect();
    Ok(Claims { webhooks, is_last })
}

/// What happens to a claimed webhook next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The replica continues with the next message.
    Continue,
    /// All changes were sent, or the webhook is paused.
    Idle,
    /// The next attempt is at this time.
    RetryAt(Timestamp),
}

/// Stores the state of a claimed webhook, and an attempt. Returns whether the claim was still valid, and the owner has not
/// changed the webhook since it had the revision `expected`. Otherwise, nothing is stored.
///
/// # Errors
/// Those of the database.
pub(crate) async fn save(
    db: &Db,
    now: Timestamp,
    lease: Uuid,
    webhook: &WebhookRow,
    expected: Revision,
    next: Next,
    attempt: Option<Attempt>,
) -> Result<bool, Error> {
    const UPDATE: &str = "
        update webhooks set update_time = $4, revision = $5, pause_time = $6, position = $7, sync_token = $8,
            message_end = $9, failures = $10, failing_since = $11, due_time = $12, lease = $13, attempts = attempts + $14
        where owner_id = $1 and id = $2 and lease = $3 and revision = $15 returning attempts";
    let (due_time, next_lease) = match next {
        Next::Continue => (Some(now + LEASE), Some(lease)),
        Next::Idle => (None, None),
        Next::RetryAt(time) => (Some(time), None),
    };
    let (owner, id) = (webhook.owner_id, webhook.id);
    let values = args![
        owner,
        id,
        lease,
        webhook.update_time,
        webhook.revision,
        webhook.pause_time,
        webhook.position,
        &webhook.sync_token,
        webhook.message_end.clone(),
        webhook.failures,
        webhook.failing_since,
        due_time,
        next_lease,
        i64::from(attempt.is_some()),
        expected
    ];
    db.write(move |conn| {
        Box::pin(async move {
            let Some(number) = conn.fetch_optional::<i64>(UPDATE, values).await? else { return Ok(false) };
            if let Some(attempt) = attempt {
                insert_within(conn, owner, id, NumberedAttempt { number, attempt }).await?;
            }
            Ok(true)
        })
    })
    .await
}

/// Ends a claim, if it is still valid, and makes the webhook due unless it is paused, so that its delivery starts again.
///
/// # Errors
/// Those of the database.
pub(crate) async fn release(db: &Db, now: Timestamp, owner: Uuid, id: Uuid, lease: Uuid) -> Result<(), Error> {
    const UPDATE: &str = "
        update webhooks set due_time = case when pause_time is null then cast($4 as bigint) end, lease = null
        where owner_id = $1 and id = $2 and lease = $3";
    db.execute(UPDATE, args![owner, id, lease, now]).await.map(drop)
}

/// Reports whether the owner has changes after the position of a webhook.
///
/// # Errors
/// Those of the database.
pub(crate) async fn is_behind(db: &Db, webhook: &WebhookRow) -> Result<bool, Error> {
    const SELECT: &str = "select last_change from owners where owner_id = $1";
    let last: Option<i64> = db.fetch_optional(SELECT, args![webhook.owner_id]).await?;
    Ok(last.is_some_and(|last| last != webhook.position))
}

/// Returns those of the tasks of an owner that match a filter. Those that were purged are not among them. This is one of the
/// searches of the account.
///
/// # Errors
/// Those of searches.
pub(crate) async fn matching(
    db: &Db,
    searches: &Searches,
    owner: Uuid,
    now: Timestamp,
    filter: &Filter,
    ids: Vec<Uuid>,
) -> Result<Vec<Uuid>, SearchError> {
    let engine = db.engine();
    let mut select = QueryBuilder::new(format!("select id from {} where owner_id = ", tasks_with_texts(engine)));
    select.push_bind(owner).push(" and id in ").push_ids(ids).push(" and (");
    push_filter(&mut select, filter, engine, now, SearchColumn::Full);
    select.push(")");
    searches.fetch_all(owner, select.build()).await
}

/// Returns the fields of tasks that have changed after a point, up to a mutation, in the order of their names. The name is
/// empty if the mutation has created the task.
///
/// # Errors
/// Those of the database.
pub(crate) async fn changed_fields(
    db: &Db,
    owner: Uuid,
    since: SyncPoint,
    last: i64,
    ids: Vec<Uuid>,
) -> Result<Vec<(Uuid, String)>, Error> {
    let mut select = QueryBuilder::new("select distinct task_id, field from task_history where owner_id = ");
    select.push_bind(owner).push(" and (change, task_id) > (").push_bind(since.change).push(", ");
    select.push_bind(since.id).push(") and change <= ").push_bind(last).push(" and task_id in ").push_ids(ids);
    select.push(" order by task_id, field");
    let (sql, values) = select.build();
    db.fetch_all(sql, values).await
}
