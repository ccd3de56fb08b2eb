//! Authentication: access tokens, the keys that sign them, and revoked sessions.

pub mod actor;
pub mod authentication;
pub mod call_limit;
pub mod caller;
pub mod check;
pub mod claims;
pub mod credential;
pub mod interceptor;
mod jwk;
pub mod key_source;
pub mod keys;
pub mod personal_access_token;
pub mod protected;
pub mod revocation;
pub mod rotation;
pub mod scope;
pub mod token;
