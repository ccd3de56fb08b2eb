//! Logins: password checks and their rate limits, sessions, and tokens.

pub mod address_limits;
pub mod attempts;
pub mod device_login;
pub mod hasher;
pub mod hashing;
pub mod in_progress;
pub mod passkey_login;
pub mod passkeys;
pub mod password_login;
pub mod reauthentication;
pub mod second_factor;
pub mod sessions;
pub mod token_issuer;
