//! The environment of a service in its program: settings, logs, secret files and shutdown.

pub mod build_info;
pub mod command_line;
pub mod config;
mod config_command;
mod config_file;
pub mod doctor;
pub mod log_limit;
mod log_writer;
pub mod output;
pub mod secret_file;
pub mod service_manager;
pub mod shutdown;
pub mod telemetry;
