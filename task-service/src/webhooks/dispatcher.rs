//! Starts the deliveries of webhooks that are due.

use std::{sync::Arc, time::Duration};

use metrics::{counter, gauge};
use service_kit::{
    clock::{Clock, Timestamp},
    db::{self, Db, Searches},
    ops::as_gauge,
    random,
    turns::TurnQueue,
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{delivery::Delivery, sender::Sender};
use crate::{
    model::webhook::WebhookRow,
    store::webhook_queue,
    watch::{Watches, notification::ChangedOwners, sync_page::ChangeReader},
};

/// Maximum number of deliveries at the same time. A receiver that answers slowly occupies one of them.
const MAX_DELIVERIES: usize = 256;

/// How often the queue is read for webhooks whose next attempt is due. Changes are sent at once.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Notifications within this time are handled together.
const BATCH_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait after a failure of the database.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How often all webhooks are compared with the changes of their owners, and with the clock: a replica may have stopped
/// before it sent a notification, purges send none, and the clock may have been set back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Maximum number of rows per statement.
const BATCH: i64 = 500;

/// Maximum number of owners per statement.
const MAX_OWNERS: usize = 500;

/// Maximum number of webhooks that are claimed together.
const CLAIM_BATCH: usize = 64;

/// Sends the messages of all webhooks, together with those of other replicas.
pub(crate) struct Dispatcher {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) watches: Arc<Watches>,
    pub(crate) changes: ChangeReader,
    pub(crate) searches: Searches,
    pub(crate) turns: TurnQueue,
    pub(crate) sender: Arc<Sender>,
}

impl Dispatcher {
    /// Sends messages, and encrypts secrets with the current key, for as long as it is awaited.
    pub(crate) async fn run(self: &Arc<Self>) {
        // Exported before the first pause, so that alerts see it.
        counter!("taskey_webhooks_paused_total").increment(0);
        tokio::join!(self.dispatch(), self.sweep(), self.sender.secrets().follow(&self.db, &self.clock));
    }

    async fn dispatch(self: &Arc<Self>) {
        let (mut deliveries, mut failing) = (JoinSet::new(), false);
        loop {
            let changed = timeout(POLL_INTERVAL, self.watches.webhook_owners().changed()).await.ok();
            while deliveries.try_join_next().is_some() {}
            let result = self.start(changed, &mut deliveries).await;
            gauge!("taskey_webhook_deliveries").set(as_gauge(deliveries.len()));
            if let (Err(error), false) = (&result, failing) {
                tracing::warn!(%error, "cannot read the queue of webhooks");
            }
            failing = result.is_err();
            if failing {
                self.watches.webhook_owners().notify_all();
            }
            sleep(if failing { RETRY_DELAY } else { BATCH_INTERVAL }).await;
        }
    }

    /// Makes the webhooks of owners with changes due, and starts deliveries of webhooks that are due.
    async fn start(
        self: &Arc<Self>,
        changed: Option<ChangedOwners>,
        deliveries: &mut JoinSet<()>,
    ) -> Result<(), db::Error> {
        match changed {
            Some(ChangedOwners::Named(owners)) => {
                let owners: Vec<Uuid> = owners.into_iter().collect();
                for owners in owners.chunks(MAX_OWNERS) {
                    webhook_queue::mark_due(&self.db, self.clock.now(), owners.to_vec()).await?;
                }
            }
            Some(ChangedOwners::All) => self.mark_behind().await?,
            None => {}
        }
        loop {
            let limit = (MAX_DELIVERIES - deliveries.len()).min(CLAIM_BATCH);
            let (lease, max_claims) = (random::id(), i64::try_from(limit).unwrap_or(i64::MAX));
            if limit == 0 {
                return Ok(());
            }
            let claim_time = self.clock.now();
            let claims = webhook_queue::claim(&self.db, claim_time, lease, max_claims).await?;
            for webhook in claims.webhooks {
                self.watches.webhook_owners().remember(webhook.owner_id);
                let dispatcher = Arc::clone(self);
                deliveries.spawn(async move { dispatcher.deliver(webhook, lease, claim_time).await });
            }
            if claims.is_last {
                return Ok(());
            }
        }
    }

    async fn deliver(&self, webhook: WebhookRow, lease: Uuid, claim_time: Timestamp) {
        let Self { db, clock, changes, searches, turns, sender, .. } = self;
        let (owner, id) = (webhook.owner_id, webhook.id);
        let delivery = Delivery {
            db,
            clock,
            changes,
            searches,
            turns,
            sender,
            revision: webhook.revision,
            webhook,
            lease,
            claim_time,
            owes_message: false,
            read_time: Duration::ZERO,
        };
        match delivery.run().await {
            Ok(true) => self.watches.webhook_owners().notify(owner),
            Ok(false) => {}
            Err(error) => {
                // Searches of the account that exceed its limits are not the operator's concern.
                if [ErrorReason::RateLimited, ErrorReason::Overloaded].contains(&error.reason()) {
                    tracing::debug!(webhook_id = %id, reason = ?error.reason(), "a delivery waits for others");
                } else {
                    tracing::warn!(webhook_id = %id, reason = ?error.reason(), "a delivery ended; it starts again");
                }
                sleep(RETRY_DELAY).await;
                // If this fails too, the claim expires.
                _ = webhook_queue::release(db, clock.now(), owner, id, lease).await;
            }
        }
    }

    /// Reads the owners with webhooks, and makes their webhooks due if they have changes or the clock was set back, now and
    /// periodically.
    async fn sweep(&self) {
        loop {
            let result = async {
                self.read_owners().await?;
                self.mark_postponed().await?;
                self.mark_behind().await
            };
            let delay = match result.await {
                Ok(()) => random::jitter(SWEEP_INTERVAL),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the webhooks");
                    random::jitter(RETRY_DELAY)
                }
            };
            sleep(delay).await;
        }
    }

    async fn read_owners(&self) -> Result<(), db::Error> {
        let mut after = Uuid::nil();
        loop {
            let owners = webhook_queue::owners_after(&self.db, after, BATCH).await?;
            for owner in &owners {
                self.watches.webhook_owners().remember(*owner);
            }
            match owners.last() {
                Some(last) if i64::try_from(owners.len()) == Ok(BATCH) => after = *last,
                _ => return Ok(()),
            }
        }
    }

    async fn mark_postponed(&self) -> Result<(), db::Error> {
        while webhook_queue::mark_postponed(&self.db, self.clock.now(), BATCH).await? == BATCH.unsigned_abs() {}
        Ok(())
    }

    async fn mark_behind(&self) -> Result<(), db::Error> {
        while webhook_queue::mark_behind(&self.db, self.clock.now(), BATCH).await? == BATCH.unsigned_abs() {}
        Ok(())
    }
}
