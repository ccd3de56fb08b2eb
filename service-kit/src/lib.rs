//! What every gRPC service of Taskey is built with, and enough to accept Taskey's access tokens in a service of your
//! own.
//!
//! # Layout
//! - [`server`]: from the listener to the service: limits, deadlines, health, reflection, drain.
//! - [`auth`]: access tokens, keys, revoked sessions, and how a service identifies itself.
//! - [`db`]: one handle for SQLite and PostgreSQL.
//! - [`ops`]: settings, logs, secret files, shutdown.
//! - [`status`]: errors. [`page`]: pages of lists. [`rate_limit`], [`network`]: how often, and who counts.
//! - [`clock`], [`random`], [`id`]: the one place for each.

pub mod auth;
pub mod clock;
pub mod db;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod id;
pub mod network;
pub mod ops;
pub mod page;
pub mod random;
pub mod rate_limit;
pub mod server;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
