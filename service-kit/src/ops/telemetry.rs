//! Logs on standard error, as text or JSON. Nothing waits for the process that reads the log.

use std::{
    env,
    io::{self, IsTerminal},
    panic,
    sync::OnceLock,
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use super::log_writer::LogWriter;

/// The writer of the process, once the logger is initialized.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// How long the end of a program waits until its log is written.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Log settings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct TelemetryArgs {
    /// Log filter in the syntax of tracing, such as `info` or `auth_service=debug` [default: the value of `RUST_LOG`,
    /// or info]
    #[arg(long, env = "TASKEY_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,

    /// Format of log lines
    #[arg(long, env = "TASKEY_LOG_FORMAT", value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Initializes the logger of the process, and logs panics instead of printing them.
///
/// # Errors
/// If the filter is invalid, or a logger was initialized before.
pub fn init(args: &TelemetryArgs) -> anyhow::Result<()> {
    let filter = match &args.log {
        Some(filter) => EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("--log: {error}"))?,
        None => match env::var(EnvFilter::DEFAULT_ENV) {
            Ok(filter) if !filter.is_empty() => {
                EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("RUST_LOG: {error}"))?
            }
            _ => EnvFilter::new("info"),
        },
    };
    let writer = LogWriter::start(io::stderr()).context("cannot start the thread of the log")?;
    let lines = fmt().with_env_filter(filter).with_writer(writer.clone()).log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot initialize the logger: {error}"))?;
    _ = WRITER.set(writer);
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The default hook would print to standard error, and wait for it.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let (thread, location) = (thread::current(), info.location().map(ToString::to_string));
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(thread, location, message = info.payload_as_str().unwrap_or("panic without a message"));
    if thread == "main" {
        flush();
    }
}

/// Sets the metrics of the log.
pub(super) fn record_metrics() {
    if let Some(writer) = WRITER.get() {
        writer.record_metrics();
    }
}

/// Waits briefly until all log lines are written. Call it before the process ends.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(FLUSH_LIMIT);
    }
}
