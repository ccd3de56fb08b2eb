//! The messages of one webhook, one after the other.

use std::time::Duration;

use metrics::counter;
use service_kit::{
    clock::{Clock, Timestamp},
    db::{Db, Searches},
    random,
    status::ApiError,
    turns::{Turn, TurnQueue},
};
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{TaskChange, WatchTasksResponse},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use uuid::Uuid;

use super::{
    http::SendWindow,
    message::{self, ChangedFields},
    sender::{ATTEMPT_TIMEOUT, Sender},
};
use crate::{
    model::{
        Revision,
        filter::Filter,
        sync::SyncPoint,
        webhook::{Attempt, SEND_PERIOD, WebhookRow},
    },
    store::{
        disabled_owners,
        webhook_queue::{self, Next},
    },
    watch::{
        stream::PAGE_SIZE,
        sync_page::{ChangeReader, SyncPage},
    },
};

/// How long to wait if this replica does not have the key of the secret. Another one may have it.
const KEY_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Maximum pause after a page.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How long to wait for the other deliveries of the account, which is less than a claim is valid.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A webhook that this replica has claimed.
pub(super) struct Delivery<'a> {
    pub(super) db: &'a Db,
    pub(super) clock: &'a Clock,
    pub(super) changes: &'a ChangeReader,
    pub(super) searches: &'a Searches,
    /// The deliveries of an account read one after the other.
    pub(super) turns: &'a TurnQueue,
    pub(super) sender: &'a Sender,
    pub(super) webhook: WebhookRow,
    /// The revision of the stored webhook.
    pub(super) revision: Revision,
    pub(super) lease: Uuid,
    /// When the replica has claimed the webhook, or has renewed the claim.
    pub(super) claim_time: Timestamp,
    /// Whether the receiver may have a message that announces more messages.
    pub(super) owes_message: bool,
    /// How long the last page took to read.
    pub(super) read_time: Duration,
}

impl Delivery<'_> {
    /// Sends all messages. Reports whether there may be more changes already.
    ///
    /// # Errors
    /// Those of the database. The delivery then has to start again.
    pub(super) async fn run(mut self) -> Result<bool, ApiError> {
        // Whether its last message was sent or had no changes is not stored.
        let position = SyncPoint::open(&self.changes.tokens, self.webhook.owner_id, &self.webhook.sync_token);
        self.owes_message = position.ok().flatten().is_some_and(|point| !point.is_end());
        loop {
            let (next, is_claimed) = self.send_next().await?;
            match next {
                Next::Continue if is_claimed => self.pause().await?,
                Next::Idle if is_claimed && self.webhook.pause_time.is_none() => {
                    // A mutation during the lease did not make the webhook due.
                    return Ok(webhook_queue::is_behind(self.db, &self.webhook).await?);
                }
                _ => return Ok(!is_claimed),
            }
        }
    }

    /// Waits before the next page, so that the deliveries of an account read for at most a fifth of the time.
    async fn pause(&self) -> Result<(), ApiError> {
        let _turn = self.turn().await?;
        sleep((self.read_time * 4).min(MAX_PAUSE)).await;
        Ok(())
    }

    /// Waits until no other delivery of the account reads or pauses.
    async fn turn(&self) -> Result<Turn, ApiError> {
        timeout(TURN_TIMEOUT, self.turns.acquire(self.webhook.owner_id)).await.map_err(|_| {
            let message = "too many deliveries of the account are waiting";
            ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
        })
    }

    /// Sends the next message, if there is one. Returns what happens next, and whether the claim is still valid.
    async fn send_next(&mut self) -> Result<(Next, bool), ApiError> {
        let turn = self.turn().await?;
        let begun = Instant::now();
        let (page, is_reset) = self.next_page().await?;
        self.read_time = begun.elapsed();
        drop(turn);
        if disabled_owners::is_disabled(self.db, self.webhook.owner_id).await? {
            return self.abandon().await;
        }
        let (position, token, has_more) = (page.point.change, page.token.clone(), page.has_more);
        let attempt = match self.send(page, is_reset).await {
            Err(error) if error.reason() == ErrorReason::WebhooksDisabled => {
                tracing::error!(webhook_id = %self.webhook.id, "the key of the secret of a webhook is missing");
                return self.save(Next::RetryAt(self.clock.now() + KEY_RETRY_DELAY), None).await;
            }
            attempt => attempt?,
        };
        let next = match &attempt {
            Some(attempt) if !attempt.has_succeeded() => self.fail(attempt.http_status, token),
            _ => {
                self.webhook.advance(position, token);
                if attempt.is_some() {
                    self.webhook.succeed();
                    self.owes_message = has_more;
                }
                if has_more { Next::Continue } else { Next::Idle }
            }
        };
        self.save(next, attempt).await
    }

    fn fail(&mut self, http_status: Option<u16>, message_end: String) -> Next {
        let now = self.clock.now();
        let delay = self.webhook.fail(now, http_status, message_end);
        if self.webhook.pause_time.is_none() {
            return Next::RetryAt(now + random::jitter(delay));
        }
        tracing::warn!(webhook_id = %self.webhook.id, owner_id = %self.webhook.owner_id, "a webhook was paused");
        counter!("taskey_webhooks_paused_total").increment(1);
        Next::Idle
    }

    /// Ends the claim without a message, because the account is disabled. The webhook is due, because the account may have
    /// been enabled meanwhile. Otherwise, it becomes idle when it is claimed again.
    async fn abandon(&self) -> Result<(Next, bool), ApiError> {
        let (owner, id) = (self.webhook.owner_id, self.webhook.id);
        webhook_queue::release(self.db, self.clock.now(), owner, id, self.lease).await?;
        Ok((Next::Idle, false))
    }

    async fn save(&mut self, next: Next, attempt: Option<Attempt>) -> Result<(Next, bool), ApiError> {
        let now = self.clock.now();
        let Self { db, webhook, revision, lease, .. } = self;
        let is_claimed = webhook_queue::save(db, now, *lease, webhook, *revision, next, attempt).await?;
        if !is_claimed {
            // If the owner has changed the webhook, its next delivery waits for this one.
            webhook_queue::release(db, now, webhook.owner_id, webhook.id, *lease).await?;
        }
        (self.claim_time, self.revision) = (now, self.webhook.revision);
        Ok((next, is_claimed))
    }

    /// Returns the changes of the next message: those of the message that has failed, or those after the position. After
    /// the position has expired, it starts again with all tasks, and returns true.
    async fn next_page(&mut self) -> Result<(SyncPage, bool), ApiError> {
        let (owner, tokens) = (self.webhook.owner_id, &self.changes.tokens);
        let open = |token: &str| SyncPoint::open(tokens, owner, token).ok().flatten();
        let since = open(&self.webhook.sync_token);
        let page = match self.webhook.message_end.as_deref().and_then(open) {
            Some(end) => self.changes.page_until(owner, since, end, PAGE_SIZE).await,
            None => self.changes.page(owner, since, PAGE_SIZE).await,
        };
        let (mut page, is_reset) = match page {
            Err(error) if error.reason() == ErrorReason::SyncTokenExpired => {
                tracing::warn!(webhook_id = %self.webhook.id, "the position of a webhook has expired; it starts again");
                (self.changes.page(owner, None, PAGE_SIZE).await?, true)
            }
            page => (page?, false),
        };
        self.apply_filter(&mut page).await?;
        Ok((page, is_reset))
    }

    /// Removes the changes of tasks that do not match the filter. Lists and purged tasks cannot be compared with it.
    async fn apply_filter(&self, page: &mut SyncPage) -> Result<(), ApiError> {
        let filter = Filter::parse(&self.webhook.filter).map_err(|error| ApiError::internal(error.to_string()))?;
        if filter.is_empty() || page.changes.is_empty() {
            return Ok(());
        }
        let (owner, now) = (self.webhook.owner_id, self.clock.now());
        let ids = page.changes.iter().filter_map(|change| change.id.parse().ok()).collect();
        let matching = webhook_queue::matching(self.db, self.searches, owner, now, &filter, ids).await?;
        page.changes.retain(|change| change.removed || matching.iter().any(|id| id.to_string() == change.id));
        Ok(())
    }

    /// Returns the fields of tasks that have changed from the position up to a mutation. There are none of tasks that were
    /// created since, and none if the webhook starts with all tasks.
    async fn changed_fields(&self, changes: &[TaskChange], last: i64) -> Result<ChangedFields, ApiError> {
        let owner = self.webhook.owner_id;
        let since = SyncPoint::open(&self.changes.tokens, owner, &self.webhook.sync_token).ok().flatten();
        let Some(since) = since else { return Ok(ChangedFields::new()) };
        let ids = changes.iter().filter_map(|change| change.id.parse().ok()).collect();
        let mut fields = ChangedFields::new();
        for (task, field) in webhook_queue::changed_fields(self.db, owner, since, last, ids).await? {
            fields.entry(task).or_default().push(field);
        }
        // The creation of a task has no name.
        fields.retain(|_, names| names.iter().all(|name| !name.is_empty()));
        Ok(fields)
    }

    /// Sends a page. Without changes there is nothing to send, unless the receiver must discard what it has received, or
    /// waits for the last message.
    async fn send(&self, page: SyncPage, is_reset: bool) -> Result<Option<Attempt>, ApiError> {
        let SyncPage { changes, list_changes, token, point, has_more } = page;
        let is_required = is_reset || (self.owes_message && !has_more);
        if changes.is_empty() && list_changes.is_empty() && !is_required {
            return Ok(None);
        }
        let changed_fields = self.changed_fields(&changes, point.change).await?;
        let content = WatchTasksResponse { changes, list_changes, sync_token: token, checkpoint: !has_more };
        let id = message::id(&self.webhook, &content, is_reset);
        let body = message::to_json(&content, &changed_fields, is_reset)?;
        // After the lease, another replica may send this message and later ones.
        let until = self.claim_time + SEND_PERIOD;
        self.sender.send(&self.webhook, id, body, SendWindow { timeout: ATTEMPT_TIMEOUT, until }).await.map(Some)
    }
}
