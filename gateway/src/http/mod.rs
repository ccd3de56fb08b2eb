//! HTTP requests and responses of RPCs, and what surrounds them.

pub mod call;
pub mod compression;
pub mod cors;
pub mod error;
pub mod headers;
pub mod negotiation;
pub mod request;
pub mod response;
