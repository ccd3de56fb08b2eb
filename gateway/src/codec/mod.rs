//! Converts JSON, query parameters and path variables to Protocol Buffers messages, and messages to JSON.

#[cfg(test)]
mod differential;
mod integer;
pub mod json;
pub mod json_buffer;
mod map_key;
pub mod mask;
pub mod message;
pub mod message_writer;
pub mod parameter;
pub mod percent;
mod record;
#[cfg(any(test, fuzzing))]
pub mod reference;
pub mod scalar;
mod timestamp;
pub mod types;
pub mod violation;
pub mod well_known;
pub mod wire;
mod write;
