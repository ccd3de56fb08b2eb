//! The gateway as its clients see it, before backends that echo, refuse or never answer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bindings;
mod bodies;
mod errors;
mod forms;
mod forwarding;
mod masks;
mod paths;
mod program;
mod queries;
mod support;
