//! Derives the field mask of a PATCH from the keys of its body. Every key in the body is updated, even if it is
//! `null`.

use prost_reflect::{Kind, MessageDescriptor};

use crate::codec::{json::Json, message, well_known};

/// Returns the paths of the fields in a JSON object, in the order of its keys. A non-empty nested message contributes
/// the paths of its fields instead of its own.
#[must_use]
pub fn paths(descriptor: &MessageDescriptor, json: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    collect(descriptor, json, "", &mut paths);
    paths
}

fn collect(descriptor: &MessageDescriptor, json: &Json, prefix: &str, paths: &mut Vec<String>) {
    let Json::Object(entries) = json else { return };
    for (key, value) in entries {
        let Some(field) = message::find_field(descriptor, key) else { continue };
        let path = format!("{prefix}{}", field.name());
        match (field.kind(), value) {
            (Kind::Message(inner), Json::Object(entries))
                if !entries.is_empty() && !field.is_map() && !field.is_list() && !well_known::is_well_known(&inner) =>
            {
                collect(&inner, value, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}
