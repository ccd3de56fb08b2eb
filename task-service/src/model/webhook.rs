//! Webhooks: their limits, and what becomes of them after attempts.

use std::time::Duration;

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{Revision, later};

pub(crate) mod secret;

/// Maximum number of webhooks of an owner.
pub(crate) const MAX_WEBHOOKS: i64 = 10;

/// Maximum number of attempts that are stored of a webhook, and for how long.
pub(crate) const MAX_ATTEMPTS: i64 = 100;
pub(crate) const ATTEMPT_RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// How long the earlier secret is used after a rotation.
pub(crate) const ROTATION_PERIOD: Duration = Duration::from_secs(86_400);

/// How long a replica may send the messages of a webhook before another one may claim it.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// Until when after its claim a replica may send a request, so that the attempt ends before the lease.
pub(crate) const SEND_PERIOD: Duration = Duration::from_secs(15);

/// A webhook without success for this long is paused.
const MAX_FAILURE_TIME: Duration = Duration::from_secs(3 * 86_400);

/// The delay after a failure doubles from the minimum to the maximum.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// No claim and no varied delay is longer.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(2 * 3600);

/// The status with which a receiver declines further messages.
const GONE: u16 = 410;

/// A row of the table of webhooks.
#[derive(Clone, Debug)]
pub(crate) struct WebhookRow {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) revision: Revision,
    /// Set if the webhook is paused.
    pub(crate) pause_time: Option<Timestamp>,
    /// The mutation of the sync token.
    pub(crate) position: i64,
    pub(crate) sync_token: String,
    /// The sync token of the end of a message that has failed.
    pub(crate) message_end: Option<String>,
    pub(crate) generation: i64,
    /// The number of attempts that have failed since the last success.
    pub(crate) failures: i64,
    pub(crate) failing_since: Option<Timestamp>,
    pub(crate) secrets: SealedSecrets,
    pub(crate) url: String,
    pub(crate) filter: String,
}

/// The encrypted secrets of a webhook.
#[derive(Clone, Debug)]
pub(crate) struct SealedSecrets {
    pub(crate) current: String,
    pub(crate) previous: Option<String>,
    /// Until when the previous secret is used.
    pub(crate) previous_until: Option<Timestamp>,
}

impl SealedSecrets {
    /// Returns the previous secret if it is used at an instant.
    pub(crate) fn previous_at(&self, now: Timestamp) -> Option<&str> {
        self.previous.as_deref().filter(|_| self.previous_until.is_some_and(|until| now < until))
    }
}

/// An attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) time: Timestamp,
    pub(crate) http_status: Option<u16>,
    pub(crate) latency: Duration,
    pub(crate) message_id: String,
    /// Empty if the attempt has succeeded.
    pub(crate) error: String,
}

impl Attempt {
    pub(crate) fn has_succeeded(&self) -> bool {
        self.error.is_empty()
    }
}

impl WebhookRow {
    /// Moves the position to a point up to which all changes were sent.
    pub(crate) fn advance(&mut self, position: i64, sync_token: String) {
        (self.position, self.sync_token, self.message_end) = (position, sync_token, None);
    }

    /// Records a success.
    pub(crate) fn succeed(&mut self) {
        (self.failures, self.failing_since) = (0, None);
    }

    /// Records a failure of a message that ends at the point with this sync token. Pauses the webhook if it has failed for
    /// too long, or the receiver declines further messages. Returns the mean delay of the next attempt.
    pub(crate) fn fail(&mut self, now: Timestamp, http_status: Option<u16>, message_end: String) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        self.message_end = Some(message_end);
        if http_status == Some(GONE) || now.since(since) >= MAX_FAILURE_TIME {
            self.pause_time = Some(now);
            (self.update_time, self.revision) = (later(now, self.update_time), self.revision.next());
        }
        let doublings = u32::try_from(self.failures - 1).unwrap_or(u32::MAX).min(16);
        (MIN_BACKOFF * 2_u32.pow(doublings)).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> WebhookRow {
        let time = Timestamp::from_seconds(1_800_000_000);
        WebhookRow {
            owner_id: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            create_time: time,
            update_time: time,
            revision: Revision::FIRST,
            pause_time: None,
            position: 1,
            sync_token: "start".to_owned(),
            message_end: None,
            generation: 0,
            failures: 0,
            failing_since: None,
            secrets: SealedSecrets { current: String::new(), previous: None, previous_until: None },
            url: String::new(),
            filter: String::new(),
        }
    }

    #[test]
    fn delays_double_up_to_an_hour() {
        let (mut webhook, now) = (webhook(), Timestamp::from_seconds(1_800_000_000));
        let delays: Vec<_> = (0..12).map(|_| webhook.fail(now, Some(500), "end".to_owned()).as_secs()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!((webhook.failures, webhook.failing_since, webhook.pause_time), (12, Some(now), None));
    }

    #[test]
    fn a_webhook_is_paused_after_three_days_without_success() {
        let (mut webhook, start) = (webhook(), Timestamp::from_seconds(1_800_000_000));
        webhook.fail(start, None, "end".to_owned());
        webhook.fail(start + MAX_FAILURE_TIME - Duration::from_micros(1), None, "end".to_owned());
        assert_eq!((webhook.pause_time, webhook.revision), (None, Revision::FIRST));
        webhook.fail(start + MAX_FAILURE_TIME, None, "end".to_owned());
        assert_eq!((webhook.pause_time, webhook.revision), (Some(start + MAX_FAILURE_TIME), Revision(2)));
    }

    #[test]
    fn success_ends_the_time_without_success() {
        let (mut webhook, start) = (webhook(), Timestamp::from_seconds(1_800_000_000));
        webhook.fail(start, None, "end".to_owned());
        webhook.succeed();
        webhook.fail(start + MAX_FAILURE_TIME, None, "end".to_owned());
        assert_eq!((webhook.failing_since, webhook.pause_time), (Some(start + MAX_FAILURE_TIME), None));
    }

    #[test]
    fn status_410_pauses_a_webhook_at_once() {
        let (mut webhook, now) = (webhook(), Timestamp::from_seconds(1_800_000_000));
        webhook.fail(now, Some(410), "end".to_owned());
        assert_eq!(webhook.pause_time, Some(now));
    }
}
