//! OAuth 2.0 for service accounts: authentication of clients, and the tokens that they get.

pub mod client;
pub mod client_token;
pub mod exchange;
pub mod grants;
