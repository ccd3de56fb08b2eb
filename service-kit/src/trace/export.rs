//! Sends spans to the collector. Nothing waits for it: spans that do not fit into the queue, or that it does not accept,
//! are dropped and counted.
//!
//! The batch processor of the SDK (0.33) is not used: it does not count what it drops, and its thread blocks until an
//! export has ended, also at the end of the program.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Status, transport::Channel};

use crate::ops::{as_gauge, log_limit::LogLimit};

/// Maximum number of spans that wait to be sent. A span has about 1 KiB, and at most 3 KiB.
const MAX_QUEUED_SPANS: usize = 8192;

/// Maximum number of spans in a message, and how long the first one waits for others.
const MAX_BATCH: usize = 512;
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How long the collector may take to accept a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicUsize,
    exported: AtomicU64,
    /// The spans that did not fit into the queue.
    overflowed: AtomicU64,
    /// The spans that the collector has not accepted.
    rejected: AtomicU64,
}

impl Counts {
    fn record_metrics(&self) {
        let dropped = |reason, count: &AtomicU64| {
            metrics::counter!("taskey_spans_dropped_total", "reason" => reason).absolute(count.load(Ordering::Relaxed));
        };
        dropped("queue_full", &self.overflowed);
        dropped("not_accepted", &self.rejected);
        metrics::counter!("taskey_spans_exported_total").absolute(self.exported.load(Ordering::Relaxed));
        metrics::gauge!("taskey_span_queue_length").set(as_gauge(self.queued.load(Ordering::Relaxed)));
    }
}

enum Item {
    // Boxed, so that the queue is small while it is empty.
    Span(Box<SpanData>),
    /// Answered when the spans before it have been sent or dropped.
    Flush(oneshot::Sender<()>),
}

/// The queue of spans that have ended.
#[derive(Clone, Debug)]
pub(super) struct SpanQueue {
    items: mpsc::Sender<Item>,
    counts: Arc<Counts>,
}

impl SpanQueue {
    /// Creates a queue, and starts the task that sends its spans through `channel`.
    pub(super) fn start(channel: Channel, resource: &Resource) -> Self {
        let (items, received) = mpsc::channel(MAX_QUEUED_SPANS);
        let counts = Arc::<Counts>::default();
        let exporter = Exporter {
            client: TraceServiceClient::new(channel),
            resource: resource.into(),
            counts: Arc::clone(&counts),
            log_limit: LogLimit::default(),
        };
        tokio::spawn(exporter.run(received));
        Self { items, counts }
    }

    /// Waits until the spans in the queue have been sent or dropped.
    pub(super) async fn flush(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.items.send(Item::Flush(sender)).await.is_ok() {
            _ = receiver.await;
        }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        if self.items.try_send(Item::Span(Box::new(span))).is_err() {
            self.counts.queued.fetch_sub(1, Ordering::Relaxed);
            self.counts.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does nothing: `flush` does not block.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Exporter {
    client: TraceServiceClient<Channel>,
    resource: ResourceAttributesWithSchema,
    counts: Arc<Counts>,
    log_limit: LogLimit,
}

impl Exporter {
    async fn run(mut self, mut queue: mpsc::Receiver<Item>) {
        let mut reported = 0;
        self.counts.record_metrics();
        while let Some(first) = queue.recv().await {
            let (mut spans, mut flushed) = (Vec::new(), None);
            let (mut next, deadline) = (Some(first), Instant::now() + BATCH_DELAY);
            while let Some(item) = next {
                match item {
                    Item::Span(span) => spans.push(*span),
                    Item::Flush(sender) => flushed = Some(sender),
                }
                let is_full = spans.len() >= MAX_BATCH || flushed.is_some();
                next = if is_full { None } else { timeout_at(deadline, queue.recv()).await.ok().flatten() };
            }
            self.export(spans).await;
            self.counts.record_metrics();
            self.report(&mut reported);
            if let Some(sender) = flushed {
                // The program may have stopped waiting.
                _ = sender.send(());
            }
        }
    }

    /// Sends spans. Those that the collector does not accept in time are dropped.
    async fn export(&mut self, spans: Vec<SpanData>) {
        if spans.is_empty() {
            return;
        }
        let sent = spans.len();
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans };
        let response = timeout(EXPORT_TIMEOUT, self.client.export(request)).await;
        self.counts.queued.fetch_sub(sent, Ordering::Relaxed);
        let rejected = match response.unwrap_or_else(|_| Err(Status::deadline_exceeded("no response in time"))) {
            Ok(response) => {
                let partial = response.into_inner().partial_success;
                let rejected = partial.map_or(0, |partial| partial.rejected_spans);
                usize::try_from(rejected).unwrap_or(0).min(sent)
            }
            Err(status) => {
                tracing::debug!(code = ?status.code(), error = status.message(), "the collector did not accept spans");
                sent
            }
        };
        self.counts.rejected.fetch_add(rejected as u64, Ordering::Relaxed);
        self.counts.exported.fetch_add((sent - rejected) as u64, Ordering::Relaxed);
    }

    /// Logs how many spans were dropped since the last report.
    fn report(&self, reported: &mut u64) {
        let Counts { overflowed, rejected, .. } = &*self.counts;
        let dropped = overflowed.load(Ordering::Relaxed) + rejected.load(Ordering::Relaxed);
        if dropped > *reported && self.log_limit.admit(Instant::now()).is_some() {
            tracing::warn!(
                count = dropped - *reported,
                "spans were dropped, because the collector did not accept them"
            );
            *reported = dropped;
        }
    }
}
