//! The end of a program: signals and exit codes.

use std::{
    io::{self, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that is cancelled by SIGTERM or Ctrl-C. The program exits after `FORCED_EXIT_DELAY` at the latest.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
        // On a separate thread, so that the program exits even if the runtime hangs.
        thread::spawn(|| {
            thread::sleep(FORCED_EXIT_DELAY);
            tracing::warn!("the program did not exit in time and is terminated");
            process::exit(0);
        });
    });
    Ok(shutdown)
}

/// How long after the signal the program exits even if it hangs. Orchestrators wait longer before they kill it.
const FORCED_EXIT_DELAY: Duration = Duration::from_secs(14);

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

/// Returns the exit code of a program. Prints an error in one line.
#[must_use]
pub fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}
