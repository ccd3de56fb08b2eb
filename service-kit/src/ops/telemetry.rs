//! Logs on standard error, as text or JSON.

use std::{
    env,
    io::{self, IsTerminal},
};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

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

/// Initializes the logger of the process.
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
    // The process that reads the log may exit. A panic over that would end all calls of the server.
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot initialize the logger: {error}"))
}
