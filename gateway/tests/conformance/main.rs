//! Whether the gateway keeps to `google/api/http.proto` and to the ProtoJSON format, row by row.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bodies;
#[expect(dead_code, reason = "the suite of the gateway uses all of it")]
#[path = "../gateway/fake_backend.rs"]
mod fake_backend;
mod json;
mod maps;
mod numbers;
mod queries;
mod scalars;
#[expect(dead_code, reason = "the suite of the gateway uses all of it")]
#[path = "../gateway/support.rs"]
mod support;
mod templates;
mod transcoder;
mod well_known;
mod written;
