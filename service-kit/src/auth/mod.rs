//! Who calls: access tokens, the keys that sign them, and the sessions that have been revoked.

pub mod credential;
pub mod interceptor;
mod jwk;
pub mod key_source;
pub mod keys;
pub mod revocation;
pub mod rotation;
pub mod token;
