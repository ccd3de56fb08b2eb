//! When a program shall end.

use std::{
    io::{self, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by SIGTERM or by Ctrl-C.
///
/// # Errors
/// If the signals cannot be listened to.
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
        // A thread of its own, so that not even a runtime that hangs can hold the program.
        thread::spawn(|| {
            thread::sleep(HARD_END);
            tracing::warn!("the program did not end by itself");
            process::exit(0);
        });
    });
    Ok(shutdown)
}

/// How long after the signal the program ends, whatever holds it. Orchestrators give some more before they kill it.
const HARD_END: Duration = Duration::from_secs(14);

/// An error and its causes, without those that the text before them contains.
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

/// Turns the end of a program into its exit code, and a failure into one clear line.
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
