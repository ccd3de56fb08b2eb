//! Whether the gateway keeps to `google/api/http.proto` and to the ProtoJSON format, row by row.

mod bodies;
mod json;
mod maps;
mod numbers;
mod queries;
mod scalars;
mod templates;
mod transcoder;
mod well_known;
mod written;
