//! The RPCs: one file per service, one method per RPC. Each method parses the request, executes it and responds.

pub mod account;
pub mod admin;
pub mod auth;
pub mod request;
pub mod token;
