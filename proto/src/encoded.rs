//! Messages that are encoded without their structures.

use std::{fmt, marker::PhantomData};

use prost::{Message, bytes::BufMut};

/// The encoding of a message `M`. Servers return it where they encode a large message directly from what they read.
pub struct Encoded<M> {
    bytes: Vec<u8>,
    message: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    /// Returns the message with this encoding.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, message: PhantomData }
    }
}

impl<M> fmt::Debug for Encoded<M> {
    /// Shows the size only: the message may contain data of users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("bytes", &self.bytes.len()).finish()
    }
}

/// A message that the codec can send.
pub trait Encode: Send + 'static {
    /// Appends the encoding.
    fn encode(self, buffer: &mut impl BufMut);
}

impl<M: Message + 'static> Encode for M {
    fn encode(self, buffer: &mut impl BufMut) {
        self.encode_raw(buffer);
    }
}

impl<M: 'static> Encode for Encoded<M> {
    fn encode(self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.bytes);
    }
}
