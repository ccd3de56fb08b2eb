//! Path variables and query parameters: single fields, named by their paths in the request message.

use std::{borrow::Cow, collections::HashSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::codec::{json::DOUBLED, message, percent, scalar, violation::FieldViolation, well_known};

/// A field of the request message, or of a message in it.
#[derive(Clone, Debug)]
pub struct FieldPath {
    /// The fields on the way, of which all but the last are messages; never empty.
    fields: Vec<FieldDescriptor>,
}

impl FieldPath {
    /// Finds the field that `text`, such as `task.dueTime`, means in `root`.
    ///
    /// # Errors
    /// If there is no such field, or a text cannot be its value: messages and maps have none.
    pub fn find(root: &MessageDescriptor, text: &str, max_depth: usize) -> Result<Self, &'static str> {
        let mut fields: Vec<FieldDescriptor> = Vec::new();
        for name in text.split('.') {
            if fields.len() == max_depth {
                return Err("is nested too deep");
            }
            let parent = match fields.last() {
                None => Some(root.clone()),
                Some(field) if field.is_list() || field.is_map() => None,
                Some(field) => field.kind().as_message().filter(|of| !well_known::is(of)).cloned(),
            };
            let field = parent.and_then(|of| message::field_named(&of, name));
            fields.push(field.ok_or("is no field of this request")?);
        }
        let path = Self { fields };
        match path.last().kind() {
            _ if path.last().is_map() => Err("is a map, which cannot be given here"),
            Kind::Message(of) if !well_known::is_text(&of) => Err("is a message, which cannot be given here"),
            _ => Ok(path),
        }
    }

    /// The field itself.
    #[must_use]
    pub fn last(&self) -> &FieldDescriptor {
        self.fields.last().expect("a field path is never empty")
    }

    /// The field of the request message that holds it, or is it.
    #[must_use]
    pub fn first(&self) -> &FieldDescriptor {
        &self.fields[0]
    }

    /// The path in the spelling of the proto.
    #[must_use]
    pub fn name(&self) -> String {
        self.fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// Returns the value in the message, or `None` if it is not set or is a default without presence.
    #[must_use]
    pub fn get(&self, root: &DynamicMessage) -> Option<Value> {
        let (last, parents) = self.fields.split_last()?;
        let mut message = root;
        for parent in parents {
            message = match message.get_field(parent) {
                Cow::Borrowed(Value::Message(inner)) if message.has_field(parent) => inner,
                _ => return None,
            };
        }
        message.has_field(last).then(|| message.get_field(last).into_owned())
    }

    /// The path in the spelling of JSON.
    #[must_use]
    pub fn json_name(&self) -> String {
        self.fields.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }

    /// Puts the value into the message, adding it to those that are there if the field is repeated.
    ///
    /// # Errors
    /// If `text` is no value of the field, or another field of its oneof is set.
    pub fn put(&self, root: &mut DynamicMessage, text: &str) -> Result<(), FieldViolation> {
        let field = self.last();
        let read = match field.kind() {
            Kind::Message(of) => well_known::from_text(&of, text).map(Value::Message),
            kind => scalar::from_text(&kind, text),
        };
        let put = read.and_then(|value| {
            let mut message = root;
            for parent in &self.fields[..self.fields.len() - 1] {
                message::check_oneof(message, parent)?;
                let inner = message.get_field_mut(parent).as_message_mut();
                message = inner.expect("all but the last field of a path are messages");
            }
            if !field.is_list() {
                return message::set(message, field, value);
            }
            let list = message.get_field_mut(field).as_list_mut();
            list.expect("a repeated field holds a list").push(value);
            Ok(())
        });
        put.map_err(|violation| violation.in_field(&self.name()))
    }
}

/// Reads the parameters of a query into the message.
///
/// # Errors
/// At the first parameter that is unknown, is taken from elsewhere (`taken` says from where), comes twice although
/// its field is not repeated, or has no value of its field.
pub fn read_query(
    message: &mut DynamicMessage,
    query: &str,
    max_depth: usize,
    taken: impl Fn(&FieldPath) -> Option<&'static str>,
) -> Result<HashSet<String>, FieldViolation> {
    let root = prost_reflect::ReflectMessage::descriptor(message);
    let mut seen = HashSet::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded =
            percent::decode_query(name).map_err(|error| FieldViolation::new(error.to_string()).in_field(name))?;
        let path =
            FieldPath::find(&root, &decoded, max_depth).map_err(|why| FieldViolation::new(why).in_field(&decoded))?;
        let name = path.name();
        if let Some(place) = taken(&path) {
            return Err(FieldViolation::new(place).in_field(&name));
        }
        let value =
            percent::decode_query(value).map_err(|error| FieldViolation::new(error.to_string()).in_field(&name))?;
        path.put(message, &value)?;
        if !seen.insert(name.clone()) && !path.last().is_list() {
            return Err(FieldViolation::new(DOUBLED).in_field(&name));
        }
    }
    Ok(seen)
}
