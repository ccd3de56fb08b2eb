//! What a program needs around its service: settings, logs, secrets, and its end.

pub mod config;
pub mod secret_file;
pub mod shutdown;
pub mod telemetry;
