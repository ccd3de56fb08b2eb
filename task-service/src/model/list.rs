//! Lists of tasks, and the requests that make and change them.

use service_kit::{
    clock::Timestamp,
    status::{ApiError, Violations},
};
use taskey_proto::task::v1::{self as pb, CreateTaskListRequest, DeleteTaskListRequest, UpdateTaskListRequest};
use uuid::Uuid;

use super::{
    Revision, Target,
    field::{self, Title},
};

/// A list as the database holds it.
#[derive(Clone, Debug)]
pub(crate) struct ListRow {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) title: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) revision: Revision,
}

impl ListRow {
    /// The default list has the id of its owner.
    pub(crate) fn is_default(&self) -> bool {
        self.id == self.owner_id
    }
}

impl From<ListRow> for pb::TaskList {
    fn from(row: ListRow) -> Self {
        Self {
            is_default: row.is_default(),
            id: row.id.to_string(),
            title: row.title,
            owner_id: row.owner_id.to_string(),
            create_time: Some(row.create_time.into()),
            update_time: Some(row.update_time.into()),
            etag: row.revision.etag(),
        }
    }
}

/// Something to be done to a list.
#[derive(Debug)]
pub(crate) enum ListWrite {
    Create(Title),
    /// Without a title nothing changes.
    Update(Target, Option<Title>),
    Delete {
        target: Target,
        /// The list that the tasks go into; they are deleted if there is none.
        move_tasks_to: Option<Uuid>,
    },
}

const MISSING: &str = "must be given";

impl TryFrom<CreateTaskListRequest> for ListWrite {
    type Error = ApiError;

    fn try_from(request: CreateTaskListRequest) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let list = violations.check("task_list", request.task_list.ok_or(MISSING));
        let title = list.and_then(|list| violations.check("task_list.title", Title::try_from(list.title)));
        violations.finish(title.map(Self::Create))
    }
}

impl TryFrom<UpdateTaskListRequest> for ListWrite {
    type Error = ApiError;

    fn try_from(request: UpdateTaskListRequest) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let Some(list) = violations.check("task_list", request.task_list.ok_or(MISSING)) else {
            return violations.finish(None);
        };
        let paths = request.update_mask.unwrap_or_default().paths;
        if let Some(path) = paths.iter().find(|path| *path != "title" && *path != "*") {
            // Long enough for any field, too short for a novel.
            let path: String = path.chars().take(50).collect();
            violations.add("update_mask", format!("{path:?} cannot be changed; the mask may hold title, or *"));
        }
        let id = violations.check("task_list.id", field::id(&list.id));
        let changes = !paths.is_empty() || !list.title.is_empty();
        let title = changes.then(|| violations.check("task_list.title", Title::try_from(list.title)));
        let target = id.map(|id| Target { id, revision: Revision::of_etag(&list.etag) });
        violations.finish(target.map(|target| Self::Update(target, title.flatten())))
    }
}

impl TryFrom<DeleteTaskListRequest> for ListWrite {
    type Error = ApiError;

    fn try_from(request: DeleteTaskListRequest) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let id = violations.check("id", field::id(&request.id));
        let to = violations.check("move_tasks_to", field::optional_id(&request.move_tasks_to));
        if id.is_some() && to.flatten() == id {
            violations.add("move_tasks_to", "must be another list");
        }
        let write = id.zip(to).map(|(id, move_tasks_to)| {
            let target = Target { id, revision: Revision::of_etag(&request.etag) };
            Self::Delete { target, move_tasks_to }
        });
        violations.finish(write)
    }
}
