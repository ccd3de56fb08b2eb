//! What the gateway serves besides the RPCs: the web page, the documentation, and health checks.

pub mod asset;
pub mod docs;
pub mod health;
pub mod page;
