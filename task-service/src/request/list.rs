//! Parses writes to lists.

use std::sync::LazyLock;

use service_kit::{
    status::{ApiError, Violations},
    update_mask::{ReadOnlyFields, RepeatedFields},
};
use taskey_proto::task::v1::{CreateTaskListRequest, DeleteTaskListRequest, UpdateTaskListRequest};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::MISSING;
use crate::model::{
    Target,
    field::{self, Title},
};

/// Parses a creation. Returns the title of the new list.
pub(crate) fn create(request: CreateTaskListRequest) -> Result<Title, ApiError> {
    let mut violations = Violations::default();
    let list = violations.check("task_list", request.task_list.ok_or(MISSING));
    let title = list.and_then(|list| violations.check("task_list.title", Title::try_from(list.title)));
    violations.finish(title)
}

/// Takes the fields from an update that only repeat the current values, see [`service_kit::update_mask`].
pub(crate) fn split_off_repeated(metadata: &MetadataMap, request: &mut UpdateTaskListRequest) -> RepeatedFields {
    static READ_ONLY: LazyLock<ReadOnlyFields> =
        LazyLock::new(|| ReadOnlyFields::of("taskey.task.v1.TaskList", "task_list"));
    let UpdateTaskListRequest { task_list, update_mask, .. } = request;
    READ_ONLY.split_off(metadata, update_mask.as_mut(), task_list.as_ref())
}

/// Parses an update. Returns the list, and the new title if the title changes.
pub(crate) fn update(request: UpdateTaskListRequest) -> Result<(Target, Option<Title>), ApiError> {
    let mut violations = Violations::default();
    let Some(list) = violations.check("task_list", request.task_list.ok_or(MISSING)) else {
        return violations.finish(None);
    };
    let paths = request.update_mask.unwrap_or_default().paths;
    if let Some(path) = paths.iter().find(|path| *path != "title" && *path != "*") {
        // Truncated, because the path may be long. No field name is longer than this.
        let path: String = path.chars().take(50).collect();
        violations.add("update_mask", format!("{path:?} cannot be updated; the mask may contain title, or *"));
    }
    let id = violations.check("task_list.id", field::id(&list.id));
    let changes_title = !paths.is_empty() || !list.title.is_empty();
    let title = changes_title.then(|| violations.check("task_list.title", Title::try_from(list.title)));
    let target = id.map(|id| Target::new(id, &list.etag));
    violations.finish(target.map(|target| (target, title.flatten())))
}

/// Parses a deletion. Returns the list, and the list to which its tasks are moved, or `None` if they are deleted.
pub(crate) fn delete(request: &DeleteTaskListRequest) -> Result<(Target, Option<Uuid>), ApiError> {
    let mut violations = Violations::default();
    let id = violations.check("id", field::id(&request.id));
    let move_tasks_to = violations.check("move_tasks_to", field::optional_id(&request.move_tasks_to));
    if id.is_some() && move_tasks_to.flatten() == id {
        violations.add("move_tasks_to", "must be another list");
    }
    let target = id.map(|id| Target::new(id, &request.etag));
    violations.finish(target.zip(move_tasks_to))
}
