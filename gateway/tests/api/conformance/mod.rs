//! Tables of cases that check the gateway against `google/api/http.proto` and the ProtoJSON format.

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
