//! Metrics in the text format of Prometheus. Nothing is recorded before the recorder is installed.

use std::{convert::Infallible, time::Duration};

use anyhow::Context;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::time::sleep;

use super::{build_info::BuildInfo, telemetry};

/// Upper bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets of counts.
const COUNT_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How often the samples of histograms are added to their buckets. Until then, each sample needs memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How often gauges are set that are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All metrics except those of the process, with their descriptions.
const DESCRIPTIONS: [(Kind, &str, &str); 44] = [
    (Kind::Counter, "grpc_server_started_total", "Calls that were started"),
    (Kind::Counter, "grpc_server_handled_total", "Calls that have ended, by their status code"),
    (Kind::Histogram, "grpc_server_handling_seconds", "Time from the start of a call to the end of its response"),
    (Kind::Counter, "http_server_requests_total", "Requests to the gateway whose responses have begun"),
    (
        Kind::Histogram,
        "http_server_request_duration_seconds",
        "Time from a request to the gateway to the start of its response",
    ),
    (Kind::Gauge, "taskey_build_info", "Always 1; the labels describe the build of the program"),
    (Kind::Counter, "taskey_call_errors_total", "Failed calls of a service, by the reason of the error"),
    (Kind::Counter, "taskey_refused_calls_total", "Calls that were refused because they exceeded a limit"),
    (Kind::Gauge, "taskey_connections", "Open connections of a listener"),
    (Kind::Counter, "taskey_refused_connections_total", "Connections that were refused because they exceeded a limit"),
    (
        Kind::Gauge,
        "taskey_tls_certificate_not_after_seconds",
        "Unix time at which the certificate of the program expires",
    ),
    (Kind::Counter, "taskey_tls_reloads_total", "Changed TLS files that were read again, by whether they are usable"),
    (Kind::Counter, "taskey_tls_handshake_failures_total", "TLS handshakes of clients that failed, by their reason"),
    (Kind::Gauge, "taskey_database_connections", "Connections to PostgreSQL for calls, by their state"),
    (Kind::Gauge, "taskey_database_max_connections", "Maximum number of connections to PostgreSQL for calls"),
    (Kind::Gauge, "taskey_database_waiting_calls", "Database calls that wait for a connection or a thread"),
    (Kind::Histogram, "taskey_database_commit_writes", "Writes that shared a commit of SQLite"),
    (Kind::Gauge, "taskey_password_hashes", "Password hashes that are computed or wait for it"),
    (Kind::Gauge, "taskey_feed_state", "1 for the current state of the revocations, 0 for the others"),
    (Kind::Gauge, "taskey_feed_lag_seconds", "Time since the last message of the feed of revocations"),
    (Kind::Gauge, "taskey_feed_sequence", "Sequence number of the last message of the feed of revocations"),
    (
        Kind::Gauge,
        "taskey_feed_clock_skew_seconds",
        "How far the clock of auth-service is ahead of that of the verifier",
    ),
    (Kind::Gauge, "taskey_feed_verifiers", "Verifiers that receive the feed of revocations"),
    (Kind::Counter, "taskey_feed_history_lost_total", "Times that the database was found to have lost revocations"),
    (Kind::Gauge, "taskey_revoked_sessions", "Revoked sessions in memory"),
    (Kind::Counter, "taskey_revocations_collapsed_total", "Times that revoked sessions were replaced by a time"),
    (Kind::Counter, "taskey_revocation_state_entered_total", "Changes of the state of the revocations, to each state"),
    (
        Kind::Counter,
        "taskey_tokens_checked_without_fresh_revocations_total",
        "Access tokens that were checked while no revocations were received",
    ),
    (Kind::Counter, "taskey_tokens_from_the_future_total", "Access tokens that were refused as issued in the future"),
    (Kind::Gauge, "taskey_watches", "Open streams of WatchTasks"),
    (Kind::Gauge, "taskey_watched_accounts", "Accounts with open streams of WatchTasks"),
    (Kind::Gauge, "taskey_mails_pending", "Mails that wait to be sent, on all servers together"),
    (Kind::Counter, "taskey_mail_attempts_total", "Attempts of this server to send a mail, by their outcome"),
    (Kind::Gauge, "taskey_webhook_deliveries", "Webhooks to which this server is sending messages"),
    (Kind::Counter, "taskey_webhook_attempts_total", "Attempts of this server to send a message, by their outcome"),
    (Kind::Counter, "taskey_reminders_fired_total", "Reminders that this server has fired, by whether they were late"),
    (Kind::Gauge, "taskey_reminders_due_accounts", "Accounts whose reminders are due and have not fired, up to 1,000"),
    (
        Kind::Counter,
        "taskey_webhooks_paused_total",
        "Webhooks that this server has paused, because their receivers failed",
    ),
    (Kind::Gauge, "taskey_log_queue_bytes", "Size of the log lines that wait to be written"),
    (
        Kind::Counter,
        "taskey_log_lines_dropped_total",
        "Log lines that were dropped because the log was not read in time",
    ),
    (Kind::Gauge, "taskey_span_queue_length", "Spans that wait to be sent to the collector of traces"),
    (Kind::Counter, "taskey_spans_exported_total", "Spans that the collector of traces has accepted"),
    (Kind::Counter, "taskey_spans_dropped_total", "Spans that were dropped because the collector did not accept them"),
    (Kind::Gauge, "taskey_ready", "1 if a server is ready, else 0"),
];

/// The metrics of the process.
#[derive(Clone, Debug)]
pub struct Metrics {
    recorded: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the recorder of the process. Metrics whose handles were created earlier are not recorded.
    ///
    /// # Errors
    /// If a recorder is installed already.
    pub fn install(build: &BuildInfo) -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_writes".to_owned()), &COUNT_BUCKETS)?;
        let recorded = recorder.install_recorder().context("cannot install the recorder of metrics")?;
        let process = Collector::default();
        process.describe();
        for (kind, name, description) in DESCRIPTIONS {
            match kind {
                Kind::Counter => describe_counter!(name, description),
                Kind::Gauge => describe_gauge!(name, description),
                Kind::Histogram => describe_histogram!(name, description),
            }
        }
        let BuildInfo { name, version, commit, rustc } = *build;
        let commit = commit.unwrap_or_default();
        metrics::gauge!("taskey_build_info", "name" => name, "version" => version, "commit" => commit, "rustc" => rustc)
            .set(1.0);
        Ok(Self { recorded, process })
    }

    /// Returns the current values, in the text format of Prometheus. Reads from `/proc`.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        telemetry::record_metrics();
        self.recorded.render()
    }

    /// Limits the memory for samples, for as long as it is awaited.
    pub async fn run_upkeep(&self) -> Infallible {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.recorded.run_upkeep();
        }
    }
}

/// Calls `set` now and every second, for as long as it is awaited. For gauges whose values are not events.
pub async fn sample(mut set: impl FnMut()) -> Infallible {
    loop {
        set();
        sleep(SAMPLE_INTERVAL).await;
    }
}

/// Counts a call that was refused because it exceeded a limit.
pub fn count_refused_call(limit: &'static str) {
    metrics::counter!("taskey_refused_calls_total", "limit" => limit).increment(1);
}
