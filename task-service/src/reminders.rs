//! Fires the reminders that are due, together with other replicas.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use metrics::{counter, gauge};
use service_kit::{
    clock::{Clock, Timestamp},
    db::{self, Db},
    ops::as_gauge,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    store::reminder_queue::{count_due, fire_batch, next_due},
    watch::Watches,
};

/// Maximum time until the queue is read again: other replicas add reminders.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two reads of the queue, if nothing could be fired.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait after a failure of the database.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Fires reminders.
pub(crate) struct Reminders {
    db: Db,
    clock: Clock,
    watches: Arc<Watches>,
    /// The first reminder that was found in the queue, in microseconds.
    first: AtomicI64,
    earlier: Notify,
}

impl Reminders {
    pub(crate) fn new(db: Db, clock: Clock, watches: Arc<Watches>) -> Self {
        Self { db, clock, watches, first: AtomicI64::new(i64::MAX), earlier: Notify::new() }
    }

    /// Announces a reminder that this replica has stored.
    pub(crate) fn schedule(&self, time: Timestamp) {
        if time.as_micros() < self.first.load(Ordering::Relaxed) {
            self.earlier.notify_one();
        }
    }

    /// Fires reminders for as long as it is awaited.
    pub(crate) async fn run(&self) {
        // Exported before the first reminder, so that alerts see it.
        count_fired(0, 0);
        let mut failing = false;
        loop {
            let result = self.fire_due().await;
            if let (Err(error), false) = (&result, failing) {
                tracing::warn!(%error, "cannot read the queue of reminders");
            }
            failing = result.is_err();
            let wait = result.unwrap_or(RETRY_DELAY);
            // Calls may announce many reminders at once.
            sleep(wait.min(MIN_INTERVAL)).await;
            // An earlier reminder and a timeout are handled alike.
            _ = timeout(wait.saturating_sub(MIN_INTERVAL), self.earlier.notified()).await;
        }
    }

    /// Fires all reminders that are due, and returns how long to wait for the next one.
    async fn fire_due(&self) -> Result<Duration, db::Error> {
        loop {
            let (next, now) = (next_due(&self.db).await?, self.clock.now());
            self.first.store(next.map_or(i64::MAX, Timestamp::as_micros), Ordering::Relaxed);
            if next.is_none_or(|next| next > now) {
                gauge!("taskey_reminders_due_accounts").set(0.0);
                return Ok(next.map_or(POLL_INTERVAL, |next| next.since(now).min(POLL_INTERVAL)));
            }
            gauge!("taskey_reminders_due_accounts").set(as_gauge(count_due(&self.db, now).await?));
            let batch = fire_batch(&self.db, now).await?;
            count_fired(batch.on_time, batch.late);
            batch.changed.into_iter().for_each(|owner| self.watches.notify(owner));
            if batch.due == 0 {
                // All owners are locked by mutations or by other replicas.
                return Ok(MIN_INTERVAL);
            }
        }
    }
}

/// Counts reminders that have fired in time, and those that were late.
fn count_fired(on_time: u64, late: u64) {
    counter!("taskey_reminders_fired_total", "late" => "false").increment(on_time);
    counter!("taskey_reminders_fired_total", "late" => "true").increment(late);
}
