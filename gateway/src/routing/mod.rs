//! Which RPC is bound to a method and a path (`google.api.http`).

pub mod binding;
pub mod router;
pub mod template;
