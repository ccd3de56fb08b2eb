//! The RPCs, one file a service, one method an RPC: parse, act, respond.

pub mod account;
pub mod admin;
pub mod auth;
pub mod request;
pub mod token;
