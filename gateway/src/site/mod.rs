//! What the gateway serves besides the RPCs: the web page, the documentation, the metadata of OAuth 2.0, and health checks.

pub mod asset;
pub mod docs;
pub mod health;
pub mod oauth_metadata;
pub mod page;
