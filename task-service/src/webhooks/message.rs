//! The messages of webhooks.

use std::{collections::BTreeMap, sync::LazyLock};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{json, value::Serializer};
use service_kit::status::ApiError;
use taskey_proto::task::v1::WatchTasksResponse;
use uuid::Uuid;

use crate::model::webhook::WebhookRow;

/// The number of bytes of the hash in an id.
const ID_BYTES: usize = 16;

static DESCRIPTOR: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(taskey_proto::FILE_DESCRIPTOR_SET).expect("the contract is valid");
    pool.get_message_by_name("taskey.task.v1.WatchTasksResponse").expect("the contract has this message")
});

/// Returns the id of a message. It only depends on the changes that the message contains, so that replicas need not store
/// it: it is the same when the message is sent again, and another one if the filter now selects other changes, or after the
/// owner has moved the position.
pub(super) fn id(webhook: &WebhookRow, message: &WatchTasksResponse, is_reset: bool) -> String {
    let mut context = Context::new(&SHA256);
    for part in [webhook.id.as_bytes(), &webhook.generation.to_be_bytes()[..], &[is_reset.into()]] {
        context.update(part);
    }
    let tasks = message.changes.iter().map(|change| (&change.id, change.task.as_ref().map(|task| &task.etag)));
    let lists =
        message.list_changes.iter().map(|change| (&change.id, change.task_list.as_ref().map(|list| &list.etag)));
    let versions = tasks.chain(lists).flat_map(|(id, etag)| [id.as_str(), etag.map_or("", String::as_str)]);
    // A NUL separates the texts, which do not contain it.
    for text in [webhook.sync_token.as_str(), &message.sync_token].into_iter().chain(versions) {
        context.update(text.as_bytes());
        context.update(&[0]);
    }
    format!("msg_{}", BASE64_URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..ID_BYTES]))
}

/// The names of the fields of each task that have changed since the position of the webhook.
pub(crate) type ChangedFields = BTreeMap<Uuid, Vec<String>>;

/// Returns the JSON of a message, which is that of the gateway: fields with default values are included. Each change of a
/// task also has `changedFields`, and `reset` is only in a message that has it.
///
/// # Errors
/// INTERNAL if the contract is inconsistent.
pub(crate) fn to_json(
    message: &WatchTasksResponse,
    changed_fields: &ChangedFields,
    is_reset: bool,
) -> Result<Vec<u8>, ApiError> {
    let mut dynamic = DynamicMessage::new(DESCRIPTOR.clone());
    dynamic.transcode_from(message).map_err(ApiError::internal)?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut value = dynamic.serialize_with_options(Serializer, &options).map_err(ApiError::internal)?;
    for change in value["changes"].as_array_mut().into_iter().flatten() {
        let id: Option<Uuid> = change["id"].as_str().and_then(|id| id.parse().ok());
        change["changedFields"] = json!(id.and_then(|id| changed_fields.get(&id)).unwrap_or(&Vec::new()));
    }
    if is_reset {
        value["reset"] = json!(true);
    }
    serde_json::to_vec(&value).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use taskey_proto::task::v1::TaskChange;

    use super::*;

    #[test]
    fn json_contains_default_values_and_changed_fields() {
        let id = Uuid::from_u128(1);
        let change = TaskChange { id: id.to_string(), task: None, removed: true };
        let message = WatchTasksResponse {
            changes: vec![change],
            sync_token: "token".to_owned(),
            ..WatchTasksResponse::default()
        };
        let changed_fields = BTreeMap::from([(id, vec!["title".to_owned()])]);
        let json: Value =
            serde_json::from_slice(&to_json(&message, &changed_fields, false).expect("valid")).expect("JSON");
        let change = json!({ "id": id.to_string(), "removed": true, "changedFields": ["title"] });
        let expected = json!({
            "changes": [change],
            "listChanges": [],
            "syncToken": "token",
            "checkpoint": false,
        });
        assert_eq!(json, expected);
    }
}
