//! A buffer of JSON text, and the JSON of scalars.

use std::{fmt::Display, io::Write};

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use serde::Serialize;
use thiserror::Error;

use crate::codec::{
    integer,
    types::Kind,
    wire::{Malformed, WireValue},
};

/// Why a message cannot be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Its bytes are malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// JSON cannot represent it.
    #[error("{0}")]
    Unrepresentable(String),
}

/// The result of writing a message or a part of it.
pub type WriteResult = Result<(), WriteError>;

impl WriteError {
    /// Creates the error for a value that JSON cannot represent.
    #[must_use]
    pub fn unrepresentable(cause: impl Display) -> Self {
        Self::Unrepresentable(cause.to_string())
    }
}

/// JSON text.
#[derive(Debug)]
pub struct JsonBuffer(pub Vec<u8>);

impl JsonBuffer {
    /// Appends JSON text.
    pub fn push_text(&mut self, text: &[u8]) {
        self.0.extend_from_slice(text);
    }

    /// Appends a comma, unless the text ends with `open`, which begins the list or object.
    pub fn separate(&mut self, open: u8) {
        if self.0.last() != Some(&open) {
            self.0.push(b',');
        }
    }

    /// Appends a string or a finite number.
    pub fn push_json(&mut self, value: &(impl Serialize + ?Sized)) {
        serde_json::to_writer(&mut self.0, value).expect("scalars can be written to memory");
    }

    /// Appends a string whose characters need no escapes.
    pub fn push_quoted(&mut self, text: impl Display) {
        write!(self.0, "\"{text}\"").expect("text can be written to memory");
    }

    /// Appends a scalar or an enum value.
    ///
    /// # Errors
    /// If the value has another type, or if JSON cannot represent it.
    #[expect(clippy::cast_possible_truncation, reason = "enum values are truncated to 32 bits")]
    pub fn push_scalar(&mut self, kind: &Kind, value: WireValue<'_>) -> WriteResult {
        match (kind, value) {
            (Kind::Bool, WireValue::Varint(value)) => self.push_json(&(value != 0)),
            (Kind::Float, WireValue::Fixed32(value)) => {
                let value = f32::from_bits(value);
                if value.is_finite() { self.push_json(&value) } else { self.push_quoted(non_finite_name(value.into())) }
            }
            (Kind::Double | Kind::FiniteDouble, WireValue::Fixed64(value)) => {
                self.push_double(f64::from_bits(value), matches!(kind, Kind::FiniteDouble))?;
            }
            (Kind::String, WireValue::Bytes(value)) => {
                self.push_json(std::str::from_utf8(value).map_err(|_| Malformed)?);
            }
            (Kind::Bytes, WireValue::Bytes(value)) => self.push_quoted(Base64Display::new(value, &BASE64_STANDARD)),
            (Kind::Null, WireValue::Varint(_)) => self.push_text(b"null"),
            (Kind::Enum(kind), WireValue::Varint(value)) => match kind.name(value as i32) {
                Some(name) => self.push_text(name),
                None => self.push_json(&(value as i32)),
            },
            (kind, value) => {
                let value = integer::decode(kind, value).ok_or(Malformed)?;
                // Most JSON parsers read numbers as doubles, which cannot represent all 64-bit integers.
                if kind.is_64_bit_integer() { self.push_quoted(value) } else { self.push_json(&value) }
            }
        }
        Ok(())
    }

    fn push_double(&mut self, value: f64, must_be_finite: bool) -> WriteResult {
        match value {
            value if value.is_finite() => self.push_json(&value),
            _ if must_be_finite => return Err(WriteError::unrepresentable("a Value is not finite")),
            value => self.push_quoted(non_finite_name(value)),
        }
        Ok(())
    }
}

fn non_finite_name(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}
