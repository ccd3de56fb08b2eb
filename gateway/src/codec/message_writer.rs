//! Writes the responses of an RPC as JSON.

use std::sync::Arc;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::codec::{
    json_buffer::WriteError,
    types::{MessageIndex, Types},
    write::Writer,
};

/// Writes messages of one type, or only one field of them.
#[derive(Clone, Debug)]
pub struct MessageWriter {
    types: Arc<Types>,
    message: MessageIndex,
    /// The position of the only field that is written.
    field: Option<usize>,
}

impl MessageWriter {
    /// Creates a writer for a message type, or for one field of it. Returns `None` if `types` does not contain it.
    #[must_use]
    pub fn new(types: &Arc<Types>, descriptor: &MessageDescriptor, field: Option<&FieldDescriptor>) -> Option<Self> {
        let message = types.find(descriptor.full_name())?;
        let field = match field {
            Some(field) => Some(types.get(message).position(field.number(), 0)?),
            None => None,
        };
        Some(Self { types: Arc::clone(types), message, field })
    }

    /// Writes a message. A field that is not set is `null` if it is the only one that is written.
    ///
    /// # Errors
    /// If the bytes are malformed, if messages are nested too deeply, or if JSON cannot represent a value, for example
    /// a timestamp out of range.
    pub fn to_json(&self, bytes: &[u8]) -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::new(&self.types, 2 * bytes.len() + MIN_CAPACITY);
        match self.field {
            Some(field) => writer.write_field_of(self.types.get(self.message), field, bytes, &mut Vec::new())?,
            None => writer.write_message(self.message, bytes, &mut Vec::new())?,
        }
        writer.finish()
    }
}

/// Enough for the names of the fields of most messages.
const MIN_CAPACITY: usize = 256;
