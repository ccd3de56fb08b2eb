//! Reloads files when their content changes.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::digest::{self, Digest};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::files::{Files, Paths};
use crate::clock::{Clock, Timestamp};

/// How often the files are read, so that changes take effect within 5 s. SIGHUP causes another read at once.
const POLL_INTERVAL: Duration = Duration::from_secs(4);

/// How long before a certificate expires it is reported, and how often.
pub(super) const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);
const EXPIRY_WARNING_INTERVAL: Duration = Duration::from_secs(86_400);

/// A configuration, and when its certificate expires.
#[derive(Debug)]
pub(super) struct Built<T> {
    pub(super) config: T,
    pub(super) expire_time: Option<Timestamp>,
}

/// Builds a configuration from files.
type Build<T> = dyn Fn(&Files) -> anyhow::Result<Built<T>> + Send + Sync;

/// A configuration that is built from files. While the files are unusable, the last valid one remains in use.
pub(super) struct Reloaded<T>(Arc<Inner<T>>);

struct Inner<T> {
    current: watch::Receiver<Arc<Built<T>>>,
    /// The task that reads the files. It ends with the configuration.
    _follower: AbortOnDropHandle<()>,
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    /// Omits the configuration, which contains a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files, and follows their changes for as long as the value exists. `side` is shown in logs and metrics.
    ///
    /// # Errors
    /// If the files are unusable.
    pub(super) async fn open(
        side: &'static str,
        paths: Paths,
        clock: &Clock,
        build: impl Fn(&Files) -> anyhow::Result<Built<T>> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let source = Source { side, paths, clock: clock.clone(), build: Arc::new(build) };
        let (digest, built) = source.read().await;
        let built = Arc::new(built?);
        source.report_expiry(&built);
        // Exported before the first reload, so that alerts see the first error.
        for result in ["success", "error"] {
            source.count_reloads(result, 0);
        }
        let (sender, current) = watch::channel(built);
        let hangups = signal(SignalKind::hangup())?;
        let follower = tokio::spawn(async move { source.follow(digest, sender, hangups).await });
        Ok(Self(Arc::new(Inner { current, _follower: AbortOnDropHandle::new(follower) })))
    }

    /// Returns the current configuration.
    pub(super) fn current(&self) -> Arc<Built<T>> {
        Arc::clone(&self.0.current.borrow())
    }
}

/// The files, and how a configuration is built from them.
struct Source<T> {
    side: &'static str,
    paths: Paths,
    clock: Clock,
    build: Arc<Build<T>>,
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Reads the files. Returns what identifies their content, or the error if they cannot be read.
    async fn read(&self) -> (Digest, anyhow::Result<Built<T>>) {
        let (paths, build) = (self.paths.clone(), Arc::clone(&self.build));
        let read = spawn_blocking(move || match paths.read() {
            Ok(files) => (files.digest(), build(&files)),
            Err(error) => (digest::digest(&digest::SHA256, format!("{error:#}").as_bytes()), Err(error)),
        });
        read.await.unwrap_or_else(|error| (digest::digest(&digest::SHA256, b""), Err(error.into())))
    }

    async fn follow(self, mut last: Digest, sender: watch::Sender<Arc<Built<T>>>, mut hangups: Signal) {
        let mut until_warning = EXPIRY_WARNING_INTERVAL;
        loop {
            let is_requested = tokio::select! {
                Some(()) = hangups.recv() => true,
                () = sleep(POLL_INTERVAL) => false,
            };
            let (digest, built) = self.read().await;
            if digest.as_ref() == last.as_ref() {
                if is_requested {
                    tracing::info!(side = self.side, "no file of TLS has changed");
                }
            } else {
                last = digest;
                self.apply(built, &sender);
                until_warning = EXPIRY_WARNING_INTERVAL;
            }
            until_warning = until_warning.saturating_sub(POLL_INTERVAL);
            if until_warning.is_zero() {
                self.report_expiry(&sender.borrow());
                until_warning = EXPIRY_WARNING_INTERVAL;
            }
        }
    }

    /// Replaces the configuration, unless the new one is unusable.
    fn apply(&self, built: anyhow::Result<Built<T>>, sender: &watch::Sender<Arc<Built<T>>>) {
        let result = if built.is_ok() { "success" } else { "error" };
        self.count_reloads(result, 1);
        match built {
            Ok(built) => {
                tracing::info!(side = self.side, "the files of TLS have changed; new connections use them");
                self.report_expiry(&built);
                sender.send_replace(Arc::new(built));
            }
            Err(error) => tracing::error!(
                side = self.side,
                error = format!("{error:#}"),
                "the files of TLS are unusable; the previous ones remain in use"
            ),
        }
    }

    fn count_reloads(&self, result: &'static str, count: u64) {
        metrics::counter!("taskey_tls_reloads_total", "side" => self.side, "result" => result).increment(count);
    }

    /// Publishes when the certificate expires, and warns if that is soon.
    fn report_expiry(&self, built: &Built<T>) {
        let Some(expire_time) = built.expire_time else { return };
        #[expect(clippy::cast_precision_loss, reason = "seconds fit into 53 bits")]
        let seconds = expire_time.as_seconds() as f64;
        metrics::gauge!("taskey_tls_certificate_not_after_seconds", "side" => self.side).set(seconds);
        let now = self.clock.now();
        if expire_time <= now {
            tracing::error!(side = self.side, "the certificate of this program has expired");
        } else if expire_time.since(now) < EXPIRY_WARNING {
            let days = expire_time.since(now).as_secs() / 86_400;
            tracing::warn!(side = self.side, days, "the certificate of this program expires soon");
        }
    }
}
