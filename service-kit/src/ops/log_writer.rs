//! Writes log lines on a thread of its own, so that no call waits for the process that reads the log.
//!
//! tracing-appender is not used, because its bound is a number of lines of any length, and because the end of its
//! writer prints to standard output, which may be blocked as well.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::as_gauge;

/// Maximum size of all lines that wait to be written: some seconds of a busy server.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// A shorter line counts as this size, which limits the number of lines.
const MIN_LINE_BYTES: usize = 512;
const MAX_QUEUED_LINES: usize = MAX_QUEUED_BYTES / MIN_LINE_BYTES;

/// Dropped lines are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Pause between two checks whether all lines have been written.
const FLUSH_PAUSE: Duration = Duration::from_millis(2);

/// A writer that never blocks. Lines that do not fit into its queue are dropped and counted.
#[derive(Clone)]
pub(super) struct LogWriter {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The total size of the lines that are not written yet.
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
}

impl LogWriter {
    /// Starts the thread that writes the lines to `output`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, received) = sync_channel(MAX_QUEUED_LINES);
        let state = Arc::<State>::default();
        let written = Arc::clone(&state);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(output, &received, &written))?;
        Ok(Self { lines, state })
    }

    /// Sets the metrics of the log.
    pub(super) fn record_metrics(&self) {
        let State { queued_bytes, dropped_lines } = &*self.state;
        metrics::gauge!("taskey_log_queue_bytes").set(as_gauge(queued_bytes.load(Ordering::Relaxed)));
        metrics::counter!("taskey_log_lines_dropped_total").absolute(dropped_lines.load(Ordering::Relaxed));
    }

    /// Waits until all lines have been written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let started = Instant::now();
        while self.state.queued_bytes.load(Ordering::Acquire) > 0 && started.elapsed() < limit {
            thread::sleep(FLUSH_PAUSE);
        }
    }
}

fn write_lines(mut output: impl Write, lines: &Receiver<Vec<u8>>, state: &State) {
    let (mut reported_lines, mut reported_at) = (0, None::<Instant>);
    for line in lines {
        // The process that reads the log may have exited.
        _ = output.write_all(&line);
        let queued_bytes = state.queued_bytes.fetch_sub(counted_size(&line), Ordering::AcqRel);
        let dropped_lines = state.dropped_lines.load(Ordering::Acquire);
        // The report needs space in the queue, too.
        let has_space = queued_bytes < MAX_QUEUED_BYTES / 2;
        if has_space && dropped_lines > reported_lines && reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            let lines = dropped_lines - reported_lines;
            tracing::warn!(lines, "log lines were dropped because standard error was not read fast enough");
            (reported_lines, reported_at) = (dropped_lines, Some(Instant::now()));
        }
    }
}

fn counted_size(line: &[u8]) -> usize {
    line.len().max(MIN_LINE_BYTES)
}

impl Write for LogWriter {
    /// Queues one line, which tracing writes in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let State { queued_bytes, dropped_lines } = &*self.state;
        let size = counted_size(line);
        let fits = queued_bytes.fetch_add(size, Ordering::AcqRel) + size <= MAX_QUEUED_BYTES;
        if !fits || self.lines.try_send(line.to_vec()).is_err() {
            queued_bytes.fetch_sub(size, Ordering::AcqRel);
            dropped_lines.fetch_add(1, Ordering::AcqRel);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// An output that waits for a permit before each line.
    struct SlowOutput {
        permits: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for SlowOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            _ = self.permits.recv();
            self.written.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LogWriter, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (permit, permits) = mpsc::channel();
        let written = Arc::default();
        let output = SlowOutput { permits, written: Arc::clone(&written) };
        (LogWriter::start(output).expect("started"), permit, written)
    }

    #[test]
    fn lines_beyond_the_limits_are_dropped_and_counted() {
        for (line, kept) in [(vec![b'x'; 64 * 1024], MAX_QUEUED_BYTES / 64 / 1024), (vec![b'x'; 2], MAX_QUEUED_LINES)] {
            let (mut log, permit, written) = start();
            for _ in 0..kept + 100 {
                log.write_all(&line).expect("never fails");
            }
            assert_eq!(log.state.dropped_lines.load(Ordering::Acquire), 100);
            assert!(log.state.queued_bytes.load(Ordering::Acquire) <= MAX_QUEUED_BYTES);
            drop(permit);
            log.flush(Duration::from_secs(10));
            assert!(written.lock().expect("not poisoned").len() >= kept * line.len());
        }
    }

    #[test]
    fn flush_ends_although_the_output_is_blocked() {
        let (mut log, _permit, written) = start();
        log.write_all(b"a line\n").expect("never fails");
        log.flush(Duration::from_millis(10));
        assert!(written.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn dropped_lines_are_reported_once_lines_are_read_again() {
        let (mut log, permit, written) = start();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
        // The thread of the writer has no subscriber of its own in this test, so it uses the global one.
        tracing::subscriber::set_global_default(subscriber).expect("the only test of this process that sets it");
        for _ in 0..MAX_QUEUED_LINES + 10 {
            log.write_all(b"x\n").expect("never fails");
        }
        drop(permit);
        log.flush(Duration::from_secs(10));
        let written = String::from_utf8(written.lock().expect("not poisoned").clone()).expect("UTF-8");
        assert!(written.contains("log lines were dropped"), "{} bytes", written.len());
    }
}
