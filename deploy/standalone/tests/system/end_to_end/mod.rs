//! End-to-end tests with real processes, sockets and signals.

mod canaries;
mod configuration;
mod declared_errors;
mod deletion;
mod disabled;
mod doctor;
mod every_rpc;
mod faults;
mod keys;
mod limits;
mod personal_access_tokens;
pub mod processes;
mod production;
mod program;
mod rate_limits;
pub mod readme;
mod reflection;
mod replicas;
mod scenario;
mod whole_resources;
