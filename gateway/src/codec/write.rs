//! Writes encoded messages as proto3 JSON. Only unset fields with presence are omitted. All other fields are written
//! even if they have their default values, so that clients see every field. Map entries are sorted by key, so that
//! responses are deterministic.

use std::ops::Range;

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};

use crate::codec::{
    json_buffer::{JsonBuffer, WriteError, WriteResult},
    map_key::MapKey,
    record::{self, Record, Records},
    timestamp,
    types::{Field, Kind, Label, Mapping, MessageIndex, MessageType, Types},
    wire::{MAX_DEPTH, Malformed, WireValue, read_value},
};

/// The result of writing a part of a message. What JSON cannot represent is noted in [`Writer::unrepresentable`].
type Written = Result<(), Malformed>;

/// Writes one message.
pub struct Writer<'t> {
    types: &'t Types,
    json: JsonBuffer,
    /// How much deeper messages may be nested.
    depth: usize,
    /// Why JSON cannot represent the message. The rest is still written, because it may be malformed.
    unrepresentable: Option<String>,
}

impl<'t> Writer<'t> {
    /// Creates a writer with an empty buffer of this capacity.
    pub fn new(types: &'t Types, capacity: usize) -> Self {
        Self { types, json: JsonBuffer(Vec::with_capacity(capacity)), depth: MAX_DEPTH, unrepresentable: None }
    }

    /// Returns the JSON.
    ///
    /// # Errors
    /// If JSON cannot represent the message.
    pub fn finish(self) -> Result<Vec<u8>, WriteError> {
        match self.unrepresentable {
            Some(cause) => Err(WriteError::Unrepresentable(cause)),
            None => Ok(self.json.0),
        }
    }

    /// Writes a message.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn write_message<'a>(&mut self, index: MessageIndex, bytes: &'a [u8], records: &mut Records<'a>) -> Written {
        let message = self.types.get(index);
        match &message.mapping {
            Mapping::Object => {
                self.json.push_text(b"{");
                self.write_fields(message, bytes, records)?;
                self.json.push_text(b"}");
                Ok(())
            }
            Mapping::FirstField => self.write_field_of(message, 0, bytes, records),
            Mapping::Value => self.write_value_message(message, bytes, records),
            Mapping::Any => self.write_any(bytes),
            Mapping::Timestamp => {
                let result = timestamp::write(&mut self.json, bytes);
                self.note(result)
            }
            Mapping::ProstReflect(descriptor) => {
                let message = DynamicMessage::decode(descriptor.clone(), bytes).map_err(Malformed::from)?;
                let serializer = &mut serde_json::Serializer::new(&mut self.json.0);
                let result = message.serialize_with_options(serializer, &SerializeOptions::new());
                self.note(result.map_err(WriteError::unrepresentable))
            }
        }
    }

    /// Writes the fields of a message, separated by commas.
    fn write_fields<'a>(&mut self, message: &'t MessageType, bytes: &'a [u8], records: &mut Records<'a>) -> Written {
        let mut rest = self.read(message, bytes, records)?;
        let start = rest.start;
        for (position, field) in message.fields.iter().enumerate() {
            let run = record::run(records, rest.clone(), position);
            rest.start = run.end;
            if !run.is_empty() || !field.has_presence {
                self.json.separate(b'{');
                self.json.push_text(&field.name);
                self.write_field(field, run, records)?;
            }
        }
        records.truncate(start);
        Ok(())
    }

    /// Appends the fields of a message to `records`. Returns their range.
    fn read<'a>(
        &mut self,
        message: &'t MessageType,
        bytes: &'a [u8],
        records: &mut Records<'a>,
    ) -> Result<Range<usize>, Malformed> {
        let start = records.len();
        let cleared = record::read(message, bytes, self.depth, records)?;
        let end = records.len();
        for record in cleared {
            records.push(record);
            self.check(&message.fields[record.field], end..end + 1, records)?;
            records.truncate(end);
        }
        Ok(start..end)
    }

    /// Writes only one field of a message, or `null` if it is absent.
    ///
    /// # Errors
    /// If the message is malformed.
    pub fn write_field_of<'a>(
        &mut self,
        message: &'t MessageType,
        only: usize,
        bytes: &'a [u8],
        records: &mut Records<'a>,
    ) -> Written {
        let mut rest = self.read(message, bytes, records)?;
        let start = rest.start;
        for (position, field) in message.fields.iter().enumerate() {
            let run = record::run(records, rest.clone(), position);
            rest.start = run.end;
            if position != only {
                self.check(field, run, records)?;
            } else if run.is_empty() && field.has_presence {
                self.json.push_text(b"null");
            } else {
                self.write_field(field, run, records)?;
            }
        }
        records.truncate(start);
        Ok(())
    }

    /// Writes a `google.protobuf.Value`.
    fn write_value_message<'a>(
        &mut self,
        message: &'t MessageType,
        bytes: &'a [u8],
        records: &mut Records<'a>,
    ) -> Written {
        let range = self.read(message, bytes, records)?;
        match records[range.clone()].first() {
            // All of its fields are in one oneof, so only one is left.
            Some(Record { field, .. }) => self.write_field(&message.fields[*field], range.clone(), records)?,
            None => self.json.push_text(b"null"),
        }
        records.truncate(range.start);
        Ok(())
    }

    /// Writes the message in an `Any` with its type. An empty `Any` is an empty object.
    fn write_any(&mut self, bytes: &[u8]) -> Written {
        let any = prost_types::Any::decode(bytes).map_err(Malformed::from)?;
        if any == prost_types::Any::default() {
            self.json.push_text(b"{}");
            return Ok(());
        }
        let index = any.type_url.rsplit_once('/').and_then(|(_, name)| self.types.find(name));
        let Some(index) = index else {
            return self.note(Err(WriteError::unrepresentable("the type of an Any is unknown")));
        };
        self.json.push_text(b"{\"@type\":");
        self.json.push_json(&any.type_url);
        let message = self.types.get(index);
        let written = self.nested(|writer| {
            if message.is_well_known {
                writer.json.push_text(b",\"value\":");
                writer.write_message(index, &any.value, &mut Vec::new())
            } else {
                writer.write_fields(message, &any.value, &mut Vec::new())
            }
        });
        self.json.push_text(b"}");
        // An `Any` is malformed only if its own fields are.
        self.note(written.map_err(WriteError::unrepresentable))
    }

    /// Writes a field whose records are in `run`.
    fn write_field<'a>(&mut self, field: &'t Field, run: Range<usize>, records: &mut Records<'a>) -> Written {
        if run.is_empty() {
            self.json.push_text(&field.default);
            return Ok(());
        }
        match field.label {
            Label::Singular => self.write_singular(field, run, records),
            Label::List => self.write_list(field, run, records),
            Label::Map => self.write_map(field, run, records),
        }
    }

    /// Checks a field that is not written. Values that JSON cannot represent are accepted.
    fn check<'a>(&mut self, field: &'t Field, run: Range<usize>, records: &mut Records<'a>) -> Written {
        let (length, unrepresentable) = (self.json.0.len(), self.unrepresentable.take());
        let result = self.write_field(field, run, records);
        self.json.0.truncate(length);
        self.unrepresentable = unrepresentable;
        result
    }

    /// Notes that JSON cannot represent a value.
    fn note(&mut self, result: WriteResult) -> Written {
        match result {
            Ok(()) => Ok(()),
            Err(WriteError::Malformed(error)) => Err(error),
            Err(WriteError::Unrepresentable(cause)) => {
                self.unrepresentable.get_or_insert(cause);
                Ok(())
            }
        }
    }

    /// Writes the last of the values, or the message that they are merged to.
    fn write_singular<'a>(&mut self, field: &'t Field, run: Range<usize>, records: &mut Records<'a>) -> Written {
        let last = run.end - 1;
        let is_message = matches!(field.kind, Kind::Message(_) | Kind::Group(_));
        if is_message && run.len() > 1 {
            let merged = record::merge(&field.kind, &records[run], self.depth)?;
            let value = match field.kind {
                Kind::Group(_) => WireValue::Group(&merged),
                _ => WireValue::Bytes(&merged),
            };
            return self.write_value(&field.kind, value, &mut Vec::new());
        }
        for earlier in run.start..last {
            self.check(field, earlier..earlier + 1, records)?;
        }
        self.write_value(&field.kind, records[last].value, records)
    }

    fn write_list<'a>(&mut self, field: &'t Field, run: Range<usize>, records: &mut Records<'a>) -> Written {
        self.json.push_text(b"[");
        for position in run {
            match (records[position].value, field.kind.packed_wire_type()) {
                (WireValue::Bytes(mut packed), Some(wire_type)) => {
                    while !packed.is_empty() {
                        self.json.separate(b'[');
                        self.write_value(&field.kind, read_value(&mut packed, wire_type)?, records)?;
                    }
                }
                (value, _) => {
                    self.json.separate(b'[');
                    self.write_value(&field.kind, value, records)?;
                }
            }
        }
        self.json.push_text(b"]");
        Ok(())
    }

    /// Writes a map. If a key is repeated, its last value counts.
    fn write_map<'a>(&mut self, field: &'t Field, run: Range<usize>, records: &mut Records<'a>) -> Written {
        let Kind::Message(entry) = field.kind else { return Err(Malformed) };
        let [key_field, value_field] = &self.types.get(entry).fields[..] else { return Err(Malformed) };
        let start = records.len();
        let mut entries = Vec::with_capacity(run.len());
        for position in run {
            let WireValue::Bytes(bytes) = records[position].value else { return Err(Malformed) };
            let range = self.read(self.types.get(entry), bytes, records)?;
            let keys = record::run(records, range.clone(), 0);
            let values = keys.end..range.end;
            entries.push((MapKey::last(&key_field.kind, &records[keys])?, values));
        }
        entries.sort_by_key(|(key, _)| *key);
        self.json.push_text(b"{");
        for (index, (key, values)) in entries.iter().enumerate() {
            if entries.get(index + 1).is_some_and(|(next, _)| next == key) {
                self.check(value_field, values.clone(), records)?;
                continue;
            }
            self.json.separate(b'{');
            key.write(&mut self.json);
            self.json.push_text(b":");
            match value_field.kind {
                Kind::Message(_) if values.is_empty() => {
                    self.write_value(&value_field.kind, WireValue::Bytes(&[]), records)?;
                }
                _ => self.write_field(value_field, values.clone(), records)?,
            }
        }
        self.json.push_text(b"}");
        records.truncate(start);
        Ok(())
    }

    fn write_value<'a>(&mut self, kind: &'t Kind, value: WireValue<'a>, records: &mut Records<'a>) -> Written {
        match (kind, value) {
            (Kind::Message(message), WireValue::Bytes(bytes)) | (Kind::Group(message), WireValue::Group(bytes)) => {
                self.nested(|writer| writer.write_message(*message, bytes, records))
            }
            (kind, value) => {
                let result = self.json.push_scalar(kind, value);
                self.note(result)
            }
        }
    }

    /// Writes a message inside another.
    fn nested(&mut self, write: impl FnOnce(&mut Self) -> Written) -> Written {
        self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
        let result = write(self);
        self.depth += 1;
        result
    }
}
