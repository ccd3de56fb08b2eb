//! Schemas of messages and enums, named without their packages.
//!
//! A message has up to three schemas, which differ in the required fields: responses contain all fields without
//! presence, requests must contain the required fields, and updates need not contain any.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::ensure;
use indexmap::IndexMap;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{comment, contract::Limits, value};

/// The purpose of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Part of a response.
    Response,
    /// Part of a request.
    Request,
    /// Part of a request that updates a resource: it contains the fields to change, and `null` clears a field.
    Update,
}

/// A value of `google.api.FieldBehavior`, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Behavior {
    /// Requests must set the field.
    Required = 2,
    /// The server sets the field.
    OutputOnly = 3,
    /// Responses never contain the field.
    InputOnly = 4,
    /// The field cannot be updated.
    Immutable = 5,
}

/// A named schema.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Schema {
    /// The schema of a message.
    Object(Object),
    /// Any other schema.
    Other(Value),
}

/// The schema of a message, with its fields in the order of the proto.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    r#type: &'static str,
    properties: IndexMap<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_properties: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_properties: Option<bool>,
}

/// The schemas of the document.
#[derive(Debug)]
pub struct Schemas {
    /// The full names of the messages in responses.
    response_messages: HashSet<String>,
    /// The full name of the message or enum that each schema describes, by schema name.
    owners: HashMap<String, String>,
    finished: BTreeMap<String, Schema>,
    /// The schema names with more than one owner.
    duplicates: Vec<String>,
}

impl Schemas {
    /// Creates an empty collection for the RPCs of `pool`.
    #[must_use]
    pub fn new(pool: &DescriptorPool) -> Self {
        let mut response_messages = HashSet::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            collect_messages(&method.output(), &mut response_messages);
        }
        Self { response_messages, owners: HashMap::new(), finished: BTreeMap::new(), duplicates: Vec::new() }
    }

    /// Returns all schemas, with `others` added.
    ///
    /// # Errors
    /// If two schemas have the same name.
    pub fn finish(mut self, others: Vec<(&'static str, Value)>) -> anyhow::Result<BTreeMap<String, Schema>> {
        for (name, schema) in others {
            if self.finished.insert(name.to_owned(), Schema::Other(schema)).is_some() {
                self.duplicates.push(name.to_owned());
            }
        }
        ensure!(self.duplicates.is_empty(), "several schemas have the name {}", self.duplicates.join(", "));
        Ok(self.finished)
    }

    /// Returns the schema of a message.
    pub fn message(&mut self, message: &MessageDescriptor, purpose: Purpose) -> Value {
        if let Some(schema) = value::well_known(message) {
            return schema;
        }
        let suffix = match purpose {
            Purpose::Update => "Update",
            Purpose::Request if self.response_messages.contains(message.full_name()) => "Input",
            Purpose::Request | Purpose::Response => "",
        };
        let name = short_name(message.full_name(), message.package_name()) + suffix;
        self.define(&name, message.full_name(), |schemas| Schema::Object(schemas.object(message, purpose, &[])))
    }

    /// Returns the schema of a body that contains the request message without the fields bound to the path.
    pub fn body(&mut self, message: &MessageDescriptor, path_fields: &[FieldDescriptor]) -> Value {
        if path_fields.is_empty() {
            return self.message(message, Purpose::Request);
        }
        let name = short_name(message.full_name(), message.package_name());
        let mut name = name.strip_suffix("Request").unwrap_or(&name).to_owned() + "Body";
        let owner = path_fields.iter().fold(message.full_name().to_owned(), |owner, field| owner + " -" + field.name());
        // Another binding of the message can have other fields in its path.
        while self.owners.get(&name).is_some_and(|existing| *existing != owner) {
            name.push('2');
        }
        self.define(&name, &owner, |schemas| Schema::Object(schemas.object(message, Purpose::Request, path_fields)))
    }

    /// Returns a reference to the schema `name`, which is built on first use. The owner is registered before that,
    /// because the schema can refer to itself.
    fn define(&mut self, name: &str, owner: &str, build: impl FnOnce(&mut Self) -> Schema) -> Value {
        match self.owners.get(name) {
            Some(existing) if existing == owner => {}
            Some(_) => self.duplicates.push(name.to_owned()),
            None => {
                self.owners.insert(name.to_owned(), owner.to_owned());
                let schema = build(self);
                self.finished.insert(name.to_owned(), schema);
            }
        }
        reference(name)
    }

    fn object(&mut self, message: &MessageDescriptor, purpose: Purpose, excluded: &[FieldDescriptor]) -> Object {
        let fields: Vec<_> =
            message.fields().filter(|field| !excluded.contains(field) && is_included(field, purpose)).collect();
        let has_update_mask = purpose != Purpose::Response && message.get_field_by_name("update_mask").is_some();
        let mut properties = IndexMap::new();
        for field in &fields {
            // The resource next to an update mask is an update, in nested messages as well.
            let is_updated = has_update_mask && !field.is_list() && has_behavior(field, Behavior::Required);
            let purpose = if is_updated { Purpose::Update } else { purpose };
            properties.insert(field.json_name().to_owned(), self.property(field, purpose));
        }
        let required = fields.iter().filter(|field| is_required(field, purpose));
        Object {
            description: comment::leading(&message.parent_file(), message.path()),
            r#type: "object",
            required: required.map(|field| field.json_name().to_owned()).collect(),
            properties,
            // The message consists of a single oneof.
            max_properties: (message.oneofs().len() == 1 && is_oneof(&fields)).then_some(1),
            additional_properties: (purpose != Purpose::Response).then_some(false),
        }
    }

    fn property(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        let mut schema = self.field(field, purpose);
        let is_input = !has_behavior(field, Behavior::Required) && !has_behavior(field, Behavior::OutputOnly);
        if purpose == Purpose::Update && is_input {
            schema = value::nullable(schema);
        }
        let mut schema = value::with_description(schema, &description(field));
        if has_behavior(field, Behavior::OutputOnly) {
            schema.insert("readOnly".to_owned(), true.into());
        }
        if has_behavior(field, Behavior::InputOnly) {
            schema.insert("writeOnly".to_owned(), true.into());
        }
        schema.into()
    }

    /// Returns the schema of the values of a field, without a description.
    pub fn field(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().expect("a map field has a message type");
            let values = self.element(&entry.map_entry_value_field(), purpose);
            return json!({"type": "object", "additionalProperties": values});
        }
        let mut element = self.element(field, purpose);
        // Responses can contain data that is older than a limit.
        let limits = if purpose == Purpose::Response { Limits::default() } else { Limits::from_field(field) };
        if let Value::Object(schema) = &mut element {
            limits.add_to_value(schema);
        }
        if !field.is_list() {
            return element;
        }
        let mut list = Map::from_iter([("type".to_owned(), json!("array")), ("items".to_owned(), element)]);
        limits.add_to_list(&mut list);
        list.into()
    }

    fn element(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        match field.kind() {
            Kind::Message(message) => self.message(&message, purpose),
            Kind::Enum(descriptor) => {
                let name = short_name(descriptor.full_name(), descriptor.package_name());
                self.define(&name, descriptor.full_name(), |_| Schema::Other(value::enumeration(&descriptor)))
            }
            kind => value::scalar(&kind),
        }
    }
}

/// Returns a reference to a named schema.
#[must_use]
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Returns the comment of a field, followed by the other fields of its oneof, which cannot be set together with it.
#[must_use]
pub fn description(field: &FieldDescriptor) -> String {
    let comment = comment::leading(&field.parent_file(), field.path());
    let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) else { return comment };
    let others: Vec<_> =
        oneof.fields().filter(|other| other != field).map(|other| format!("`{}`", other.json_name())).collect();
    if others.is_empty() {
        comment
    } else {
        format!("{comment} Not together with {}.", others.join(", ")).trim().to_owned()
    }
}

/// Reports whether the `google.api.field_behavior` of a field contains `behavior`.
#[must_use]
pub fn has_behavior(field: &FieldDescriptor, behavior: Behavior) -> bool {
    let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
    extension.is_some_and(|extension| {
        let options = field.options();
        let behaviors = options.get_extension(&extension);
        behaviors.as_list().unwrap_or_default().iter().any(|value| value.as_enum_number() == Some(behavior as i32))
    })
}

fn is_oneof(fields: &[FieldDescriptor]) -> bool {
    fields.len() > 1 && fields.iter().all(|field| field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()))
}

fn is_included(field: &FieldDescriptor, purpose: Purpose) -> bool {
    purpose != Purpose::Response || !has_behavior(field, Behavior::InputOnly)
}

/// Reports whether a message must contain a field. Responses contain all fields except those with presence: messages,
/// optional fields and members of oneofs.
fn is_required(field: &FieldDescriptor, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Response => !field.supports_presence(),
        Purpose::Request => has_behavior(field, Behavior::Required),
        Purpose::Update => false,
    }
}

/// Adds the full names of `message` and of all messages that it contains.
fn collect_messages(message: &MessageDescriptor, names: &mut HashSet<String>) {
    if names.insert(message.full_name().to_owned()) {
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                collect_messages(&inner, names);
            }
        }
    }
}

/// Returns the name of a schema: `taskey.task.v1.Task.State` becomes `TaskState`.
fn short_name(full_name: &str, package: &str) -> String {
    full_name.strip_prefix(package).unwrap_or(full_name).split('.').collect()
}
