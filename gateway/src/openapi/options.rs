//! What the options of `taskey.options.v1` say of RPCs and fields.

use prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, ServiceDescriptor, Value};
use serde_json::{Map, json};

/// The scope of RPCs that need no access token.
const PUBLIC: &str = "public";

/// Reports whether an RPC needs no access token.
#[must_use]
pub fn is_public(method: &MethodDescriptor) -> bool {
    let scope = option(&method.options(), "scope");
    scope.is_some_and(|scope| scope.as_str() == Some(PUBLIC))
}

/// Returns the errors of an RPC, each as `CODE / REASON`, without those of every RPC of its service.
#[must_use]
pub fn errors(method: &MethodDescriptor) -> Vec<String> {
    texts(option(&method.options(), "errors").as_ref())
}

/// Returns the errors of every RPC of a service, each as `CODE / REASON`.
#[must_use]
pub fn common_errors(service: &ServiceDescriptor) -> Vec<String> {
    texts(option(&service.options(), "common_errors").as_ref())
}

/// The values of a field that requests can contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Minimum length of a string, in characters.
    pub min_length: u32,
    /// Maximum length of a string, in characters; 0 if there is none.
    pub max_length: u32,
    /// Minimum number of elements.
    pub min_items: u32,
    /// Maximum number of elements; 0 if there is none.
    pub max_items: u32,
    /// Whether a number must not be negative.
    pub non_negative: bool,
    /// Whether a string is a UUID.
    pub uuid: bool,
}

impl Limits {
    /// Returns the limits of a field.
    #[must_use]
    pub fn of(field: &FieldDescriptor) -> Self {
        let Some(Value::Message(limits)) = option(&field.options(), "limits") else { return Self::default() };
        let number = |name| limits.get_field_by_name(name).and_then(|value| value.as_u32()).unwrap_or_default();
        let flag = |name| limits.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or_default();
        Self {
            min_length: number("min_length"),
            max_length: number("max_length"),
            min_items: number("min_items"),
            max_items: number("max_items"),
            non_negative: flag("non_negative"),
            uuid: flag("uuid"),
        }
    }

    /// Adds the limits of single values to their schema.
    pub fn add_to_value(self, schema: &mut Map<String, serde_json::Value>) {
        add_range(schema, ["minLength", "maxLength"], [self.min_length, self.max_length]);
        if self.non_negative {
            schema.insert("minimum".to_owned(), json!(0));
        }
        if self.uuid {
            schema.insert("format".to_owned(), json!("uuid"));
        }
    }

    /// Adds the limits of the number of elements to the schema of a list.
    pub fn add_to_list(self, schema: &mut Map<String, serde_json::Value>) {
        add_range(schema, ["minItems", "maxItems"], [self.min_items, self.max_items]);
    }
}

fn add_range(schema: &mut Map<String, serde_json::Value>, keys: [&str; 2], range: [u32; 2]) {
    for (key, limit) in keys.into_iter().zip(range).filter(|(_, limit)| *limit > 0) {
        schema.insert(key.to_owned(), json!(limit));
    }
}

/// Returns an option of `taskey.options.v1`, if it is set.
fn option(options: &DynamicMessage, name: &str) -> Option<Value> {
    let descriptor = prost_reflect::ReflectMessage::descriptor(options);
    let extension = descriptor.parent_pool().get_extension_by_name(&format!("taskey.options.v1.{name}"))?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_list).unwrap_or_default();
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
