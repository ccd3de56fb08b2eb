//! Schemas of messages and enums, named without their packages.
//!
//! A message that is both sent and answered has a schema for each: an answer holds every field that always has a value,
//! a request only what it must, and an update nothing in particular.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::ensure;
use indexmap::IndexMap;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{comment, options::Limits, value};

/// What a message is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It is answered.
    Answer,
    /// It is sent.
    Request,
    /// It is sent with the fields that shall change, `null` being the value of what shall have none.
    Update,
}

/// What `google.api.field_behavior` says of a field, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Behavior {
    /// It must be given.
    Required = 2,
    /// The server sets it.
    OutputOnly = 3,
    /// It is never answered.
    InputOnly = 4,
    /// It cannot be updated.
    Immutable = 5,
}

/// A schema that has a name.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Schema {
    /// That of a message.
    Object(Object),
    /// That of anything else.
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

/// The schemas that are referred to so far.
#[derive(Debug)]
pub struct Schemas {
    /// The messages that are answered, by their full names.
    answered: HashSet<String>,
    /// What each schema describes, by its name.
    owners: HashMap<String, String>,
    made: BTreeMap<String, Schema>,
    doubled: Vec<String>,
}

impl Schemas {
    /// None, for the RPCs of `pool`.
    #[must_use]
    pub fn new(pool: &DescriptorPool) -> Self {
        let mut answered = HashSet::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            collect(&method.output(), &mut answered);
        }
        Self { answered, owners: HashMap::new(), made: BTreeMap::new(), doubled: Vec::new() }
    }

    /// All schemas, with some that are no messages of RPCs.
    ///
    /// # Errors
    /// If two have the same name.
    pub fn finish(mut self, others: Vec<(&'static str, Value)>) -> anyhow::Result<BTreeMap<String, Schema>> {
        for (name, schema) in others {
            if self.made.insert(name.to_owned(), Schema::Other(schema)).is_some() {
                self.doubled.push(name.to_owned());
            }
        }
        ensure!(self.doubled.is_empty(), "several messages or enums would be called {}", self.doubled.join(", "));
        Ok(self.made)
    }

    /// The schema of a message.
    pub fn message(&mut self, of: &MessageDescriptor, purpose: Purpose) -> Value {
        if let Some(schema) = value::well_known(of) {
            return schema;
        }
        let suffix = match purpose {
            Purpose::Update => "Update",
            Purpose::Request if self.answered.contains(of.full_name()) => "Input",
            Purpose::Request | Purpose::Answer => "",
        };
        let name = short_name(of.full_name(), of.package_name()) + suffix;
        self.named(&name, of.full_name(), |schemas| Schema::Object(schemas.object(of, purpose, &[])))
    }

    /// The schema of a body that is a whole request message, but for the fields that the path gives.
    pub fn body(&mut self, of: &MessageDescriptor, in_path: &[FieldDescriptor]) -> Value {
        if in_path.is_empty() {
            return self.message(of, Purpose::Request);
        }
        let name = short_name(of.full_name(), of.package_name());
        let mut name = name.strip_suffix("Request").unwrap_or(&name).to_owned() + "Body";
        let owner = in_path.iter().fold(of.full_name().to_owned(), |owner, field| owner + " -" + field.name());
        // Another binding may take other fields from its path.
        while self.owners.get(&name).is_some_and(|known| *known != owner) {
            name.push('2');
        }
        self.named(&name, &owner, |schemas| Schema::Object(schemas.object(of, Purpose::Request, in_path)))
    }

    /// A reference to the schema of that name, which is made if there is none yet. It may refer to itself.
    fn named(&mut self, name: &str, owner: &str, make: impl FnOnce(&mut Self) -> Schema) -> Value {
        match self.owners.get(name) {
            Some(known) if known == owner => {}
            Some(_) => self.doubled.push(name.to_owned()),
            None => {
                self.owners.insert(name.to_owned(), owner.to_owned());
                let schema = make(self);
                self.made.insert(name.to_owned(), schema);
            }
        }
        reference(name)
    }

    fn object(&mut self, of: &MessageDescriptor, purpose: Purpose, without: &[FieldDescriptor]) -> Object {
        let fields: Vec<_> = of.fields().filter(|field| !without.contains(field) && belongs(field, purpose)).collect();
        let updates = purpose != Purpose::Answer && of.get_field_by_name("update_mask").is_some();
        let mut properties = IndexMap::new();
        for field in &fields {
            // What a mask goes with is an update, wherever it stands.
            let is_updated = updates && !field.is_list() && is(field, Behavior::Required);
            let purpose = if is_updated { Purpose::Update } else { purpose };
            properties.insert(field.json_name().to_owned(), self.property(field, purpose));
        }
        let required = fields.iter().filter(|field| must_be_there(field, purpose));
        Object {
            description: comment::of(&of.parent_file(), of.path()),
            r#type: "object",
            required: required.map(|field| field.json_name().to_owned()).collect(),
            properties,
            // The whole message is a choice.
            max_properties: (of.oneofs().len() == 1 && is_choice(&fields)).then_some(1),
            additional_properties: (purpose != Purpose::Answer).then_some(false),
        }
    }

    fn property(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        let mut schema = self.field(field, purpose);
        let is_input = !is(field, Behavior::Required) && !is(field, Behavior::OutputOnly);
        if purpose == Purpose::Update && is_input {
            schema = value::or_null(schema);
        }
        let mut schema = value::annotated(schema, &description(field));
        if is(field, Behavior::OutputOnly) {
            schema.insert("readOnly".to_owned(), true.into());
        }
        if is(field, Behavior::InputOnly) {
            schema.insert("writeOnly".to_owned(), true.into());
        }
        schema.into()
    }

    /// The schema of the values of a field, without a description.
    pub fn field(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().expect("a map field is of a message type");
            let values = self.single(&entry.map_entry_value_field(), purpose);
            return json!({"type": "object", "additionalProperties": values});
        }
        let mut single = self.single(field, purpose);
        // What is returned may be older than a limit.
        let limits = if purpose == Purpose::Answer { Limits::default() } else { Limits::of(field) };
        if let Value::Object(schema) = &mut single {
            limits.add_to_value(schema);
        }
        if !field.is_list() {
            return single;
        }
        let mut list = Map::from_iter([("type".to_owned(), json!("array")), ("items".to_owned(), single)]);
        limits.add_to_list(&mut list);
        list.into()
    }

    fn single(&mut self, field: &FieldDescriptor, purpose: Purpose) -> Value {
        match field.kind() {
            Kind::Message(of) => self.message(&of, purpose),
            Kind::Enum(of) => {
                let name = short_name(of.full_name(), of.package_name());
                self.named(&name, of.full_name(), |_| Schema::Other(value::of_enum(&of)))
            }
            kind => value::scalar(&kind),
        }
    }
}

/// A reference to a named schema.
#[must_use]
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// What the contract says of a field, and what the rest of its oneof means for it.
#[must_use]
pub fn description(field: &FieldDescriptor) -> String {
    let text = comment::of(&field.parent_file(), field.path());
    let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) else { return text };
    let rivals: Vec<_> =
        oneof.fields().filter(|other| other != field).map(|other| format!("`{}`", other.json_name())).collect();
    if rivals.is_empty() { text } else { format!("{text} Not together with {}.", rivals.join(", ")).trim().to_owned() }
}

/// Whether `google.api.field_behavior` says so of a field.
#[must_use]
pub fn is(field: &FieldDescriptor, behavior: Behavior) -> bool {
    let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
    extension.is_some_and(|extension| {
        let options = field.options();
        let said = options.get_extension(&extension);
        said.as_list().unwrap_or_default().iter().any(|one| one.as_enum_number() == Some(behavior as i32))
    })
}

fn is_choice(fields: &[FieldDescriptor]) -> bool {
    fields.len() > 1 && fields.iter().all(|field| field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()))
}

fn belongs(field: &FieldDescriptor, purpose: Purpose) -> bool {
    purpose != Purpose::Answer || !is(field, Behavior::InputOnly)
}

/// An answer has every field but those that may be absent: messages, and what is optional or in a oneof.
fn must_be_there(field: &FieldDescriptor, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Answer => !field.supports_presence(),
        Purpose::Request => is(field, Behavior::Required),
        Purpose::Update => false,
    }
}

fn collect(of: &MessageDescriptor, found: &mut HashSet<String>) {
    if found.insert(of.full_name().to_owned()) {
        for field in of.fields() {
            if let Kind::Message(of) = field.kind() {
                collect(&of, found);
            }
        }
    }
}

/// `taskey.task.v1.Task.State` is `TaskState`.
fn short_name(full_name: &str, package: &str) -> String {
    full_name.strip_prefix(package).unwrap_or(full_name).split('.').collect()
}
