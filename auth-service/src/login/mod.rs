//! Logins: passwords, how often they may be tried, and the sessions and tokens that result.

pub mod address_limits;
pub mod attempts;
pub mod hashing;
pub mod sessions;
pub mod token_issuer;
