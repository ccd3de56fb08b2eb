//! The codec of all calls: that of prost, with a limit for requests.

use std::marker::PhantomData;

use prost::{
    Message, Name,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use crate::encoded::Encode;

/// Maximum number of fields of a request. Each element of a repeated field counts as one. An empty element has two
/// bytes, but prost stores it as a structure of hundreds of bytes, so that a request would need more than a hundred times
/// its size. No valid request has more than 102.
const MAX_REQUEST_FIELDS: usize = 1000;

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct LimitedCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for LimitedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LimitedCodec<T, U>
where
    T: Encode,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = LimitedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        LimitedDecoder(ProstDecoder::default())
    }
}

/// The encoder of [`LimitedCodec`].
#[derive(Debug)]
pub struct MessageEncoder<T>(PhantomData<fn(T)>);

impl<T: Encode> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer);
        Ok(())
    }
}

/// The decoder of [`LimitedCodec`].
#[derive(Debug)]
pub struct LimitedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for LimitedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Responses come from servers that are trusted.
        if U::NAME.ends_with("Request") && has_too_many_fields(prost::bytes::Buf::chunk(buffer)) {
            return Err(Status::resource_exhausted("the request has too many fields"));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Reports whether a message has too many fields. The fields of fields are not counted.
fn has_too_many_fields(mut message: &[u8]) -> bool {
    let mut count = 0;
    while !message.is_empty() && count <= MAX_REQUEST_FIELDS {
        let skipped = decode_key(&mut message)
            .and_then(|(tag, wire_type)| skip_field(wire_type, tag, &mut message, DecodeContext::default()));
        if skipped.is_err() {
            // The decoder returns the error.
            return false;
        }
        count += 1;
    }
    count > MAX_REQUEST_FIELDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_message_are_counted() {
        assert!(!has_too_many_fields(&[0x0a, 0].repeat(MAX_REQUEST_FIELDS)));
        assert!(has_too_many_fields(&[0x0a, 0].repeat(MAX_REQUEST_FIELDS + 1)));
        assert!(has_too_many_fields(&[0x18, 1].repeat(MAX_REQUEST_FIELDS + 1)));
    }

    #[test]
    fn fields_of_a_field_are_not_counted() {
        let field = [0x0a, 0].repeat(2 * MAX_REQUEST_FIELDS);
        let mut length = Vec::new();
        prost::encode_length_delimiter(field.len(), &mut length).expect("written to memory");
        assert!(!has_too_many_fields(&[&[0x0a], &length[..], &field].concat()));
    }

    #[test]
    fn malformed_message_is_left_to_the_decoder() {
        assert!(!has_too_many_fields(&[0xff; 4000]));
        assert!(!has_too_many_fields(&[0x0a, 9, 0]));
    }
}
