//! The domain model: values that are valid by construction, and the rows of accounts, sessions and audit events.

pub mod action_token;
pub mod audit;
pub mod base32;
pub mod client_info;
pub mod email;
pub mod factor;
pub mod login_challenge;
pub mod login_throttle;
pub mod mail;
pub mod mail_transport;
pub mod passkey;
pub mod passkey_challenge;
pub mod password;
pub mod personal_access_token;
pub mod recovery_code;
pub mod refresh_token;
pub mod role;
pub mod sealed;
pub mod service_account;
pub mod service_certificate;
pub mod service_token;
pub mod session;
pub mod text;
pub mod totp;
pub mod user;
pub mod user_filter;
