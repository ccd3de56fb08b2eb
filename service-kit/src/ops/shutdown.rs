//! The end of a program: signals and exit codes.

use std::{io, process, process::ExitCode, thread, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{config::LimitArgs, output, service_manager, telemetry};

/// The stages of a shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Cancelled by the signal. From then on, health is NOT_SERVING, so that load balancers choose other servers.
    pub announced: CancellationToken,
    /// Cancelled after the shutdown delay. From then on, no connections are accepted, streams end, and calls in
    /// progress finish.
    pub started: CancellationToken,
}

/// A shutdown without a delay.
impl From<CancellationToken> for Shutdown {
    fn from(token: CancellationToken) -> Self {
        Self { announced: token.clone(), started: token }
    }
}

/// How long after the drain timeout the program may take to close its databases. Then it exits even if it hangs.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);

/// How long the program waits until an error is printed.
const PRINT_LIMIT: Duration = Duration::from_secs(1);

/// Handles SIGTERM and SIGINT: the first signal begins the shutdown, the second one exits immediately. SIGHUP never ends
/// the program.
///
/// A thread with a runtime of its own waits for the signals, so that the program ends even if the main runtime hangs.
///
/// # Errors
/// If the signal handlers or the thread cannot be installed.
pub fn on_signal(limits: &LimitArgs) -> io::Result<Shutdown> {
    let shutdown = Shutdown { announced: CancellationToken::new(), started: CancellationToken::new() };
    let (stages, delay, drain_timeout) = (shutdown.clone(), limits.shutdown_delay, limits.drain_timeout);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _guard = runtime.enter();
        Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        }
    };
    let wait = async move {
        signals.recv().await;
        service_manager::stopping();
        stages.announced.cancel();
        let drain = async {
            sleep(delay).await;
            stages.started.cancel();
            sleep(drain_timeout.saturating_add(CLOSE_LIMIT)).await;
        };
        tokio::select! {
            number = signals.recv() => process::exit(128 + number),
            () = drain => {}
        }
        tracing::warn!("the program did not exit in time and is terminated");
        telemetry::flush();
        process::exit(0);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(shutdown)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Waits for the next signal that ends the program, and returns its number. SIGHUP does not: files that can change
    /// are read again by those who use them.
    async fn recv(&mut self) -> i32 {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalKind::terminate().as_raw_value(),
                _ = self.interrupt.recv() => return SignalKind::interrupt().as_raw_value(),
                _ = self.hangup.recv() => service_manager::reloaded(),
            }
        }
    }
}

/// Formats an error and its causes in one line, without causes that the text already ends with.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

/// Returns the exit code of a program, after its log is written. Prints an error in one line. Does not wait long for
/// standard error, which may be a pipe that nobody reads.
#[must_use]
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    telemetry::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(format!("error: {}", one_line(&error)), PRINT_LIMIT);
            ExitCode::FAILURE
        }
    }
}
