//! Converts JSON, query parameters and path variables to Protocol Buffers messages, and messages to JSON.

pub mod json;
pub mod mask;
pub mod message;
pub mod parameter;
pub mod percent;
pub mod scalar;
pub mod violation;
pub mod well_known;
pub mod write;
