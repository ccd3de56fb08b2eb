//! What the gateway serves beside the RPCs: the page, the documentation, and its health.

pub mod asset;
pub mod docs;
pub mod health;
pub mod page;
