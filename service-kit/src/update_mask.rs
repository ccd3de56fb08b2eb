//! Updates that send back the whole resource of a read. The gateway derives the mask of a PATCH from the keys of its
//! body. Fields in a derived mask that cannot be updated must repeat the current values. In any other mask, they are
//! errors like unknown fields.

use http::{HeaderMap, HeaderName, HeaderValue};
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use prost_types::FieldMask;
use taskey_proto::FILE_DESCRIPTOR_SET;
use tonic::metadata::MetadataMap;

use crate::{
    contract::{Contract, ContractField, ContractMessage},
    status::{ApiError, Violations},
};

/// The metadata that marks a mask as derived.
pub const DERIVED_MASK: HeaderName = HeaderName::from_static("taskey-derived-mask");

/// `OUTPUT_ONLY`, `IMMUTABLE` and `IDENTIFIER` of `google.api.FieldBehavior`.
const READ_ONLY: [i32; 3] = [3, 5, 8];

/// Fields that change without an update by the client, which has therefore read another value.
const VOLATILE: [&str; 6] =
    ["update_time", "last_use_time", "last_use_date", "last_use_address", "sync_token", "failing_since_time"];

/// Marks the mask of a request as derived.
pub fn mark_derived(headers: &mut HeaderMap) {
    headers.insert(DERIVED_MASK, HeaderValue::from_static("true"));
}

/// A field that an update cannot change.
#[derive(Debug)]
struct ReadOnlyField {
    name: String,
    number: u32,
    /// The path in the request of an update.
    path: String,
}

/// The fields of a resource that an update cannot change.
#[derive(Debug)]
pub struct ReadOnlyFields(Vec<ReadOnlyField>);

impl ReadOnlyFields {
    /// Returns the fields of a message such as `taskey.task.v1.Task`, which requests contain as the field `resource`.
    ///
    /// # Panics
    /// If the contract does not contain the message.
    #[must_use]
    pub fn of(message_name: &str, resource: &str) -> Self {
        let contract = Contract::decode(FILE_DESCRIPTOR_SET).expect("the compiled-in descriptors are valid");
        let is_named = |package: &str, message: &ContractMessage| format!("{package}.{}", message.name) == message_name;
        let message = contract.files.iter().find_map(|file| {
            let mut messages = file.messages.iter();
            messages.find(|message| is_named(&file.package, message))
        });
        let fields = message.expect("the contract contains the resource").fields.iter();
        let is_read_only = |field: &&ContractField| {
            field.options.iter().flat_map(|options| &options.behavior).any(|behavior| READ_ONLY.contains(behavior))
        };
        let field = |field: &ContractField| {
            let (name, number) = (field.name.clone(), field.number);
            ReadOnlyField { path: format!("{resource}.{name}"), name, number }
        };
        Self(fields.filter(is_read_only).map(field).collect())
    }

    /// Removes the fields from a derived mask, and returns them with the values that the request repeats. Other masks stay
    /// as they are.
    pub fn split_off(
        &'static self,
        metadata: &MetadataMap,
        mask: Option<&mut FieldMask>,
        resource: Option<&impl Message>,
    ) -> RepeatedFields {
        let (Some(mask), Some(resource)) = (mask, resource) else { return RepeatedFields::default() };
        if !metadata.contains_key(DERIVED_MASK.as_str()) {
            return RepeatedFields::default();
        }
        let mut fields = Vec::new();
        mask.paths.retain(|path| {
            let name = path.split('.').next().unwrap_or_default();
            let found = self.0.iter().find(|field| field.name == name);
            fields.extend(found);
            found.is_none()
        });
        fields.retain(|field| !VOLATILE.contains(&&*field.name));
        RepeatedFields { sent: if fields.is_empty() { Vec::new() } else { resource.encode_to_vec() }, fields }
    }
}

/// Fields of an update that must repeat the current values.
#[derive(Clone, Debug, Default)]
pub struct RepeatedFields {
    fields: Vec<&'static ReadOnlyField>,
    /// The encoded resource of the request.
    sent: Vec<u8>,
}

impl RepeatedFields {
    /// Returns the path of the first field that has another value than the current resource, if there is one.
    #[must_use]
    pub fn first_difference(&self, current: &impl Message) -> Option<&'static str> {
        if self.fields.is_empty() {
            return None;
        }
        let current = current.encode_to_vec();
        let differs =
            |field: &&&ReadOnlyField| encoded_field(&self.sent, field.number) != encoded_field(&current, field.number);
        self.fields.iter().find(differs).map(|field| &*field.path)
    }

    /// Checks that all fields repeat the current values.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the first field that does not.
    pub fn check(&self, current: &impl Message) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        if let Some(path) = self.first_difference(current) {
            violations.add(path, CANNOT_BE_CHANGED);
        }
        violations.finish(Some(()))
    }

    /// Reports whether there is no such field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// What is wrong with a field that has another value.
pub const CANNOT_BE_CHANGED: &str = "cannot be changed by an update";

/// Returns the encoding of a field within an encoded message. It is the same for equal values, because both messages
/// are encoded by the same program, and contain no maps.
fn encoded_field(message: &[u8], number: u32) -> Vec<u8> {
    let (mut rest, mut encoded) = (message, Vec::new());
    while !rest.is_empty() {
        let begin = rest;
        let Ok((tag, wire_type)) = decode_key(&mut rest) else { break };
        if skip_field(wire_type, tag, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
        if tag == number {
            encoded.extend_from_slice(&begin[..begin.len() - rest.len()]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use taskey_proto::task::v1::{Task, task::State};

    use super::*;

    static FIELDS: LazyLock<ReadOnlyFields> = LazyLock::new(|| ReadOnlyFields::of("taskey.task.v1.Task", "task"));

    fn task() -> Task {
        let create_time = Some(prost_types::Timestamp { seconds: 7, nanos: 8 });
        let (state, list_id) = (State::Open.into(), "1".to_owned());
        Task { title: "Buy milk".to_owned(), state, list_id, create_time, ..Task::default() }
    }

    fn split_off(metadata: &MetadataMap, paths: &[&str], sent: &Task) -> (Vec<String>, RepeatedFields) {
        let mut mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        let repeated = FIELDS.split_off(metadata, Some(&mut mask), Some(sent));
        (mask.paths, repeated)
    }

    fn derived() -> MetadataMap {
        let mut headers = HeaderMap::new();
        mark_derived(&mut headers);
        MetadataMap::from_headers(headers)
    }

    #[test]
    fn read_only_fields_of_a_derived_mask_must_repeat_the_current_values() {
        let paths = ["title", "state", "list_id", "create_time.seconds", "complete_time", "update_time"];
        let changed = Task { update_time: task().create_time, title: "Buy oats".to_owned(), ..task() };
        let (left, repeated) = split_off(&derived(), &paths, &changed);
        assert_eq!(left, ["title"]);
        assert_eq!(repeated.first_difference(&task()), None, "the update time may differ");
        let moved = Task { list_id: "2".to_owned(), ..task() };
        assert_eq!(repeated.first_difference(&moved), Some("task.list_id"));
        let completed = Task { complete_time: task().create_time, ..task() };
        assert_eq!(repeated.first_difference(&completed), Some("task.complete_time"));
    }

    #[test]
    fn other_masks_and_fields_are_left_to_the_service() {
        let (left, repeated) = split_off(&MetadataMap::new(), &["title", "state"], &task());
        assert_eq!((left.len(), repeated.is_empty()), (2, true));
        let (left, repeated) = split_off(&derived(), &["title", "etag", "unknown"], &task());
        assert_eq!((left.len(), repeated.is_empty()), (3, true));
    }
}
