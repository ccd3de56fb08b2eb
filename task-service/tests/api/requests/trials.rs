//! Writes that are only tried out (AIP-163).

use std::{fmt::Debug, time::Duration};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, ListTaskChangesRequest, MoveTaskRequest, ReopenTaskRequest, Task, TaskList, UndeleteTaskRequest,
    UpdateTaskListRequest, UpdateTaskRequest, move_task_request::Position,
};
use tonic::{Response, Status};

use super::{ID, Scene, everything, is_replayed};
use crate::{
    calls::{batch, before, complete, create, into, rename, to},
    support::{Service, User, titled},
};

on_each_database!(
    what_is_only_tried_out_changes_nothing_and_is_not_remembered,
    what_is_only_tried_out_is_refused_like_the_real_thing,
);

async fn what_is_only_tried_out_changes_nothing_and_is_not_remembered(database: TestDatabase) {
    async fn try_out<R: Clone + TriedOut, M: PartialEq + Debug>(
        service: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let before = everything(&user).await;
        let changes = user.client.clone().list_task_changes(ListTaskChangesRequest::default()).await.expect("changes");
        let tried = call(user.clone(), request.clone()).await.expect("it can be done");
        assert!(!is_replayed(&tried));
        assert_eq!(everything(&user).await, before);
        let since = changes.into_inner().next_sync_token;
        let request_of_changes = ListTaskChangesRequest { sync_token: since, page_size: 0 };
        let changed = user.client.clone().list_task_changes(request_of_changes).await.expect("changes").into_inner();
        assert_eq!(changed.changes, []);
        // What is made gets another id, and a rank of its own time.
        let done = call(user.clone(), request.in_earnest()).await.expect("it is done");
        assert!(!is_replayed(&done));
        let masked = |message: &M| {
            format!("{message:?}").replace(char::is_numeric, "0").replace(|c: char| c.is_ascii_hexdigit(), "0")
        };
        assert_eq!(masked(tried.get_ref()), masked(done.get_ref()));
        service.hands.advance(Duration::from_secs(1));
    }
    let service = Service::start(&database).await;
    every_write!((&service, ID, true), try_out);
}

/// A request that can be tried out.
trait TriedOut {
    /// The same, to be done.
    fn in_earnest(self) -> Self;
}

macro_rules! tried_out {
    ($($request:ty),* $(,)?) => {
        $(impl TriedOut for $request {
            fn in_earnest(self) -> Self {
                Self { validate_only: false, ..self }
            }
        })*
    };
}

tried_out!(
    CreateTaskRequest,
    UpdateTaskRequest,
    DeleteTaskRequest,
    UndeleteTaskRequest,
    CompleteTaskRequest,
    ReopenTaskRequest,
    MoveTaskRequest,
    BatchWriteTasksRequest,
    CreateTaskListRequest,
    UpdateTaskListRequest,
    DeleteTaskListRequest,
);

async fn what_is_only_tried_out_is_refused_like_the_real_thing(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "1", "--max-lists", "1"]).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let tried =
        CreateTaskRequest { task: Some(titled("Buy oats")), validate_only: true, ..CreateTaskRequest::default() };
    assert_refused!(ann.client.clone().create_task(tried).await, ResourceExhausted, "QUOTA_EXCEEDED");
    let task_list = Some(TaskList { title: "Errands".to_owned(), ..TaskList::default() });
    let tried = CreateTaskListRequest { task_list, validate_only: true, ..CreateTaskListRequest::default() };
    assert_refused!(ann.lists.clone().create_task_list(tried).await, ResourceExhausted, "QUOTA_EXCEEDED");
    let tried = MoveTaskRequest { validate_only: true, ..to(&task.id, before(&task)) };
    assert_refused!(ann.move_task(tried).await, InvalidArgument, "VALIDATION_FAILED", "before_id");
    let id = ann.id.to_string();
    let tried = DeleteTaskListRequest { id, validate_only: true, ..DeleteTaskListRequest::default() };
    assert_refused!(ann.lists.clone().delete_task_list(tried).await, FailedPrecondition, "DEFAULT_LIST");
}
