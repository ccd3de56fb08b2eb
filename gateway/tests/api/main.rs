//! Tests of the gateway as its clients see it, with fake backends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bindings;
mod bodies;
mod compression;
mod conformance;
mod contract_comments;
mod cookie_defence;
mod cookie_renewal;
mod cookie_uploads;
mod cookies;
mod cors;
mod docs;
mod errors;
mod fake_backend;
mod files;
mod forms;
mod forwarding;
mod grpc_web;
mod hostile;
mod hosts;
mod idempotency;
mod in_process;
mod isolation;
mod masks;
mod oauth;
mod openapi;
mod openapi_schemas;
mod page;
mod passthrough;
mod paths;
mod preference;
mod program;
mod public_url;
mod queries;
mod raw;
mod replicas;
mod service_config;
mod site;
mod slow;
mod streams;
mod support;
mod tls;
mod uploads;
