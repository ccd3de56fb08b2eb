//! Monitors the feed that a verifier follows: its history, and the clock of auth-service.

use std::sync::{Mutex, PoisonError};

use taskey_proto::auth::v1::WatchRevocationsResponse;
use tokio::sync::watch;

use crate::{
    auth::claims,
    clock::{Clock, Timestamp},
};

/// What a verifier has observed of the feed. Logs changes, and sets the metrics `taskey_feed_sequence` and
/// `taskey_feed_clock_skew_seconds`.
#[derive(Debug)]
pub(super) struct FeedMonitor {
    clock: Clock,
    /// The epoch and the sequence number of the last message.
    last: Mutex<Option<(String, i64)>>,
    /// Whether the clocks differ by at most [`claims::LEEWAY`].
    is_clock_in_sync: watch::Sender<bool>,
}

impl FeedMonitor {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, last: Mutex::default(), is_clock_in_sync: watch::Sender::new(true) }
    }

    /// Returns whether the clocks of auth-service and of this verifier differ by no more than access tokens allow.
    pub(super) fn clock_in_sync(&self) -> watch::Receiver<bool> {
        self.is_clock_in_sync.subscribe()
    }

    /// Observes a message of the feed.
    pub(super) fn observe(&self, message: &WatchRevocationsResponse) {
        if let Some(sent_at) = message.send_time {
            self.observe_clock(sent_at.into());
        }
        metrics::gauge!("taskey_feed_sequence").set(as_gauge(message.sequence));
        let (epoch, sequence) = (&message.epoch, message.sequence);
        // Held for a comparison, never across an await.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((last_epoch, last_sequence)) if last_epoch == epoch => *last_sequence = sequence,
            Some((last_epoch, last_sequence)) => {
                tracing::warn!(
                    last_epoch,
                    last_sequence,
                    epoch,
                    sequence,
                    "auth-service has lost history; all revocations that were received remain in effect"
                );
                *last = Some((epoch.clone(), sequence));
            }
            None => {
                tracing::info!(epoch, sequence, "receiving the feed of revocations");
                *last = Some((epoch.clone(), sequence));
            }
        }
    }

    /// Observes the time of auth-service, which includes the delay of the network.
    pub(super) fn observe_clock(&self, peer: Timestamp) {
        let now = self.clock.now();
        let skew = if peer > now { peer.since(now).as_secs_f64() } else { -now.since(peer).as_secs_f64() };
        metrics::gauge!("taskey_feed_clock_skew_seconds").set(skew);
        let is_in_sync = skew.abs() <= claims::LEEWAY.as_secs_f64();
        let has_changed =
            self.is_clock_in_sync.send_if_modified(|last| std::mem::replace(last, is_in_sync) != is_in_sync);
        let (direction, seconds) = (if skew > 0.0 { "ahead of" } else { "behind" }, format!("{:.1}", skew.abs()));
        match (has_changed, is_in_sync) {
            (true, false) => tracing::error!(
                seconds,
                "the clock of auth-service is {direction} the clock of this machine; tokens and the feed of revocations \
                 may be refused until the clocks are corrected"
            ),
            (true, true) => tracing::info!(seconds, "the clock of auth-service agrees with that of this machine again"),
            (false, _) => {}
        }
    }
}

/// Converts a number to the type of gauges, which is exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "sequence numbers are far below 2^53")]
fn as_gauge(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::testing;

    #[test]
    fn sequence_number_and_clock_skew_are_metrics() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recorder_guard = metrics::set_default_local_recorder(&recorder);
        let (clock, _) = testing::clock();
        let monitor = FeedMonitor::new(clock.clone());
        let in_sync = monitor.clock_in_sync();
        let message = |send_time: Timestamp| WatchRevocationsResponse {
            sequence: 7,
            send_time: Some(send_time.into()),
            ..WatchRevocationsResponse::default()
        };
        monitor.observe(&message(clock.now() + claims::LEEWAY));
        assert!(*in_sync.borrow(), "tokens are accepted");
        monitor.observe(&message(clock.now() - Duration::from_secs(30)));
        assert!(!*in_sync.borrow());
        let metrics = recorder.handle().render();
        assert!(metrics.contains("taskey_feed_clock_skew_seconds -30\n"), "{metrics}");
        assert!(metrics.contains("taskey_feed_sequence 7\n"), "{metrics}");
        monitor.observe(&message(clock.now()));
        assert!(*in_sync.borrow());
    }
}
