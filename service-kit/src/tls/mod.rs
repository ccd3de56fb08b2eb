//! TLS 1.2 and 1.3: on listeners, and to other services. Certificates are read from files, and reloaded when these
//! change, without closing connections.
//!
//! # Layout
//! - `args`: the settings. `files`: reads the files. `reload`: notices that they change. `provider`: cryptography.
//! - `server`, `client`: the configurations of rustls. `dialer`: opens connections to other services.
//!   `web`: TLS to the servers of users.
//! - `certificate`: the names and the validity of certificates. `failure`: why a handshake has failed. `check`: checks the
//!   files.

mod args;
mod certificate;
mod check;
mod client;
mod dialer;
mod failure;
mod files;
mod provider;
mod reload;
mod server;
mod web;

pub use args::{TlsArgs, UpstreamTlsArgs};
pub use certificate::{PeerCertificate, TlsInfo};
pub use dialer::Dialer;
pub(crate) use failure::{Failure, FailureLog};
pub(crate) use server::HANDSHAKE_RECORD;
pub use server::{ClientAuth, ServerTls};
pub use web::WebTls;
