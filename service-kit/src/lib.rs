//! What every gRPC service of Taskey is built with, and enough to accept Taskey's access tokens in a service of your
//! own.
//!
//! # Layout
//! - [`server`]: from the listener to the service: limits, deadlines, health, reflection, drain.
//! - [`interceptor`], [`token`], [`keys`], [`key_source`]: who calls? [`credential`]: how a service says who it is.
//! - [`revocation`]: which sessions have ended, known without asking; and which accounts have been deleted, for services
//!   that keep something of accounts.
//! - [`status`]: how a call is refused. [`page`]: pages of lists. [`rate_limit`], [`network`]: how often, and who counts.
//! - [`db`]: one database handle for `SQLite` and `PostgreSQL`.
//! - [`config`], [`telemetry`], [`shutdown`], [`secret_file`]: what a program needs around it.
//! - [`clock`], [`random`], [`id`]: the one place for each.

pub mod clock;
pub mod config;
pub mod credential;
pub mod db;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod id;
pub mod interceptor;
pub mod key_source;
pub mod keys;
pub mod network;
pub mod page;
pub mod random;
pub mod rate_limit;
pub mod revocation;
pub mod secret_file;
pub mod server;
pub mod shutdown;
pub mod status;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
