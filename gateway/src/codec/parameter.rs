//! Path variables and query parameters. Each sets one field of the request message, identified by its field path.

use std::{borrow::Cow, collections::HashSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::codec::{json::DUPLICATED, message, percent, scalar, violation::FieldViolation, well_known};

/// The path to a field of the request message or of a message nested in it.
#[derive(Clone, Debug)]
pub struct FieldPath {
    /// The fields from the outermost to the innermost. All but the last are messages. Never empty.
    fields: Vec<FieldDescriptor>,
}

impl FieldPath {
    /// Resolves a path such as `task.dueTime` in `root`.
    ///
    /// # Errors
    /// If there is no such field, if it is nested deeper than `max_depth`, or if it is a map or a message, which text
    /// cannot represent.
    pub fn find(root: &MessageDescriptor, text: &str, max_depth: usize) -> Result<Self, &'static str> {
        let mut fields: Vec<FieldDescriptor> = Vec::new();
        for name in text.split('.') {
            if fields.len() == max_depth {
                return Err("is nested too deeply");
            }
            let parent = match fields.last() {
                None => Some(root.clone()),
                Some(field) if field.is_list() || field.is_map() => None,
                Some(field) => field.kind().as_message().filter(|message| !well_known::is_well_known(message)).cloned(),
            };
            let field = parent.and_then(|parent| message::find_field(&parent, name));
            fields.push(field.ok_or("is no field of this request")?);
        }
        let path = Self { fields };
        match path.last().kind() {
            _ if path.last().is_map() => Err("is a map, which is not allowed here"),
            Kind::Message(message) if !well_known::has_string_mapping(&message) => {
                Err("is a message, which is not allowed here")
            }
            _ => Ok(path),
        }
    }

    /// Returns the field that the path leads to.
    #[must_use]
    pub fn last(&self) -> &FieldDescriptor {
        self.fields.last().expect("a field path is never empty")
    }

    /// Returns the outermost field, which belongs to the request message.
    #[must_use]
    pub fn first(&self) -> &FieldDescriptor {
        &self.fields[0]
    }

    /// Returns the path with proto field names.
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

    /// Returns the path with JSON field names.
    #[must_use]
    pub fn json_name(&self) -> String {
        self.fields.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }

    /// Parses `text` and sets the field in the message. Appends the value if the field is repeated.
    ///
    /// # Errors
    /// If `text` is not a value of the field, or another field of its oneof is set.
    pub fn set_from_text(&self, root: &mut DynamicMessage, text: &str) -> Result<(), FieldViolation> {
        let field = self.last();
        let parsed = match field.kind() {
            Kind::Message(message) => well_known::from_text(&message, text).map(Value::Message),
            kind => scalar::from_text(&kind, text),
        };
        let result = parsed.and_then(|value| {
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
            list.expect("the value of a repeated field is a list").push(value);
            Ok(())
        });
        result.map_err(|violation| violation.in_field(&self.name()))
    }
}

/// Sets the fields of the message from query parameters and returns their paths. `violation` describes why a field
/// must not be in the query, or returns `None` if it may be.
///
/// # Errors
/// If a parameter is unknown, must not be in the query, is duplicated although its field is not repeated, or is not a
/// value of its field. Reports the first violation only.
pub fn read_query(
    message: &mut DynamicMessage,
    query: &str,
    max_depth: usize,
    violation: impl Fn(&FieldPath) -> Option<&'static str>,
) -> Result<HashSet<String>, FieldViolation> {
    let root = prost_reflect::ReflectMessage::descriptor(message);
    let mut seen = HashSet::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded =
            percent::decode_query(name).map_err(|error| FieldViolation::new(error.to_string()).in_field(name))?;
        let path = FieldPath::find(&root, &decoded, max_depth)
            .map_err(|error| FieldViolation::new(error).in_field(&decoded))?;
        let name = path.name();
        if let Some(description) = violation(&path) {
            return Err(FieldViolation::new(description).in_field(&name));
        }
        let value =
            percent::decode_query(value).map_err(|error| FieldViolation::new(error.to_string()).in_field(&name))?;
        path.set_from_text(message, &value)?;
        if !seen.insert(name.clone()) && !path.last().is_list() {
            return Err(FieldViolation::new(DUPLICATED).in_field(&name));
        }
    }
    Ok(seen)
}
