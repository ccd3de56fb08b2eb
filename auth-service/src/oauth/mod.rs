//! OAuth 2.0: authentication of clients, and the tokens of service accounts and devices.

pub mod actor_sessions;
pub mod audiences;
pub mod client;
pub mod client_token;
pub mod device;
pub mod exchange;
pub mod grants;
