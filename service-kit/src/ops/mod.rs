//! The environment of a service in its program: settings, logs, secret files and shutdown.

pub mod build_info;
pub mod command_line;
pub mod config;
mod config_command;
mod config_file;
pub mod doctor;
pub mod file_polling;
pub mod log_limit;
mod log_writer;
pub mod metrics;
pub mod output;
pub mod runtime;
pub mod secret_file;
pub mod service_manager;
pub mod shutdown;
pub mod telemetry;

/// Converts a number to the value of a gauge. Gauges of 4 billion do not occur.
#[must_use]
pub fn as_gauge(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
