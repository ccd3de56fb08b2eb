//! The library of all gRPC services of Taskey. With it, your own service can accept Taskey's access tokens, too.
//!
//! # Layout
//! - [`server`]: from the listener to the service: limits, deadlines, health, reflection, graceful shutdown.
//! - [`tls`]: TLS of listeners and of connections to other services.
//! - [`auth`]: access tokens, keys, revoked sessions, and service credentials.
//! - [`db`]: one handle for SQLite and PostgreSQL.
//! - [`ops`]: settings, logs, secret files, shutdown. [`trace`]: traces.
//! - [`status`]: errors. [`page`]: pagination. [`filter`]: list filters. [`epoch`]: the history of a database.
//! - [`rate_limit`]: rate limits. [`budget`]: limits of what is in use. [`turns`]: calls that wait for each other. [`network`]: client addresses.
//! - [`update_mask`]: updates that send back a whole resource.
//! - [`public_url`]: the URL of the gateway, which cookies and mails contain.
//! - [`sealing`]: encrypted secrets.
//! - [`clock`], [`random`], [`id`]: time, random numbers and resource ids.

pub mod auth;
pub mod budget;
pub mod clock;
mod contract;
pub mod db;
pub mod epoch;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod id;
pub mod network;
pub mod ops;
pub mod page;
pub mod public_url;
pub mod random;
pub mod rate_limit;
pub mod sealing;
pub mod server;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod trace;
pub mod turns;
pub mod update_mask;
