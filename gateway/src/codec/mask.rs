//! The field mask of a PATCH, made from the keys of its body: what is named is changed, be it to `null`.

use prost_reflect::{Kind, MessageDescriptor};

use crate::codec::{json::Json, message, well_known};

/// The paths of the fields that a JSON object names, in the order of its keys. A message goes down to its own fields,
/// unless it has none in the JSON.
#[must_use]
pub fn paths(of: &MessageDescriptor, json: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    collect(of, json, "", &mut paths);
    paths
}

fn collect(of: &MessageDescriptor, json: &Json, prefix: &str, paths: &mut Vec<String>) {
    let Json::Object(entries) = json else { return };
    for (key, value) in entries {
        let Some(field) = message::field_named(of, key) else { continue };
        let path = format!("{prefix}{}", field.name());
        match (field.kind(), value) {
            (Kind::Message(inner), Json::Object(entries))
                if !entries.is_empty() && !field.is_map() && !field.is_list() && !well_known::is(&inner) =>
            {
                collect(&inner, value, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}
