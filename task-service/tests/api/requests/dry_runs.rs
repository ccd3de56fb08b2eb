//! Dry runs: writes with `validate_only` (AIP-163).

use std::{fmt::Debug, time::Duration};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, ListTaskChangesRequest, MoveTaskRequest, ReopenTaskRequest, Task, TaskList, UndeleteTaskRequest,
    UpdateTaskListRequest, UpdateTaskRequest, move_task_request::Position,
};
use tonic::{Response, Status};

use super::{Fixture, ID, is_replayed, snapshot};
use crate::{
    calls::{batch, before, complete, create, into, rename, to},
    support::{Service, User, titled},
};

on_each_database!(dry_run_changes_nothing_and_is_not_remembered, dry_run_fails_like_the_real_call,);

async fn dry_run_changes_nothing_and_is_not_remembered(database: TestDatabase) {
    async fn check_dry_run<R: Clone + DryRun, M: PartialEq + Debug>(
        service: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let before = snapshot(&user).await;
        let changes = user.client.clone().list_task_changes(ListTaskChangesRequest::default()).await.expect("changes");
        let dry_run = call(user.clone(), request.clone()).await.expect("the request is valid");
        assert!(!is_replayed(&dry_run));
        assert_eq!(snapshot(&user).await, before);
        let since = changes.into_inner().next_sync_token;
        let changes_request = ListTaskChangesRequest { sync_token: since, page_size: 0 };
        let changed = user.client.clone().list_task_changes(changes_request).await.expect("changes").into_inner();
        assert_eq!(changed.changes, []);
        // Ids and ranks depend on the time, so they are masked in the comparison.
        let written = call(user.clone(), request.without_validate_only()).await.expect("a write");
        assert!(!is_replayed(&written));
        let masked = |message: &M| {
            format!("{message:?}").replace(char::is_numeric, "0").replace(|c: char| c.is_ascii_hexdigit(), "0")
        };
        assert_eq!(masked(dry_run.get_ref()), masked(written.get_ref()));
        service.manual_clock.advance(Duration::from_secs(1));
    }
    let service = Service::start(&database).await;
    check_every_write!((&service, ID, true), check_dry_run);
}

/// A request with `validate_only`.
trait DryRun {
    /// Returns the same request without `validate_only`.
    fn without_validate_only(self) -> Self;
}

macro_rules! impl_dry_run {
    ($($request:ty),* $(,)?) => {
        $(impl DryRun for $request {
            fn without_validate_only(self) -> Self {
                Self { validate_only: false, ..self }
            }
        })*
    };
}

impl_dry_run!(
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

async fn dry_run_fails_like_the_real_call(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "1", "--max-lists", "1"]).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let dry_run =
        CreateTaskRequest { task: Some(titled("Buy oats")), validate_only: true, ..CreateTaskRequest::default() };
    assert_refused!(ann.client.clone().create_task(dry_run).await, ResourceExhausted, "QUOTA_EXCEEDED");
    let task_list = Some(TaskList { title: "Errands".to_owned(), ..TaskList::default() });
    let dry_run = CreateTaskListRequest { task_list, validate_only: true, ..CreateTaskListRequest::default() };
    assert_refused!(ann.lists.clone().create_task_list(dry_run).await, ResourceExhausted, "QUOTA_EXCEEDED");
    let dry_run = MoveTaskRequest { validate_only: true, ..to(&task.id, before(&task)) };
    assert_refused!(ann.move_task(dry_run).await, InvalidArgument, "VALIDATION_FAILED", "before_id");
    let id = ann.id.to_string();
    let dry_run = DeleteTaskListRequest { id, validate_only: true, ..DeleteTaskListRequest::default() };
    assert_refused!(ann.lists.clone().delete_task_list(dry_run).await, FailedPrecondition, "DEFAULT_LIST");
}
