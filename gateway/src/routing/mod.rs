//! Routes an HTTP method and path to an RPC (`google.api.http`).

pub mod binding;
pub mod router;
pub mod template;
