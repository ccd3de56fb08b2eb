//! The RPCs: one file per service, one method per RPC. Each method parses the request, executes it and responds.

pub mod account;
pub mod admin;
pub mod auth;
pub mod device_authorization;
pub mod export;
pub mod factor;
pub mod factor_request;
pub mod oauth;
pub mod oauth_request;
pub mod personal_access_token;
pub mod personal_access_token_request;
pub mod request;
pub mod service_account_request;
pub mod token;
