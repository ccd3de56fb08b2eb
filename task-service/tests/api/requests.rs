//! Retried writes with a `request_id` (AIP-155).

use std::{fmt::Debug, time::Duration};

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest, DeleteTaskRequest,
    ReopenTaskRequest, Task, TaskList, UndeleteTaskRequest, UpdateTaskListRequest, UpdateTaskRequest,
    move_task_request::Position,
};
use tonic::{Response, Status};

use crate::{
    calls::{batch, complete, create, into, rename},
    support::{Service, User, titled, with_revision},
};

on_each_database!(
    retry_of_any_write_returns_the_first_response,
    request_id_reused_for_another_request_is_refused,
    failed_request_can_be_retried_with_the_same_id,
    request_ids_are_not_shared_between_users,
    request_id_is_remembered_for_a_day,
    stored_response_survives_a_restart_and_is_shared_by_replicas,
    concurrent_requests_with_one_id_take_effect_once,
    retry_succeeds_where_a_new_request_would_exceed_the_quota,
    request_that_changes_nothing_is_remembered_too,
    request_id_that_is_not_a_uuid_is_refused,
);

const ID: &str = "0198c0de-0000-7000-8000-000000000001";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reports whether the response is that of an earlier request.
fn is_replayed<T>(response: &Response<T>) -> bool {
    response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Returns all tasks and lists of a user.
async fn snapshot(user: &User) -> (Vec<Task>, Vec<TaskList>) {
    (user.tasks_by_rank(true).await, user.list_lists(0, "").await.expect("a page").task_lists)
}

/// A user with a task to write to, a deleted task and a list.
struct Fixture {
    ann: User,
    task: Task,
    deleted: Task,
    list: TaskList,
}

impl Fixture {
    async fn create(service: &Service) -> Self {
        let ann = service.user();
        let (task, deleted, list) =
            (ann.make("Buy milk").await, ann.make("Buy oats").await, ann.make_list("Errands").await);
        ann.make_in(&list, "Buy tea").await;
        let deleted = ann.delete(&deleted.id, "").await.expect("a deletion");
        Self { ann, task, deleted, list }
    }
}

/// Calls `$check` with one RPC and a new fixture. `$options` is `(service, request_id, validate_only)`. A macro because
/// each RPC has its own method and request type.
macro_rules! check_write {
    ($options:expr, $check:ident, $client:ident.$rpc:ident, |$fixture:ident| $request:expr) => {{
        let (service, request_id, validate_only): (&Service, &str, bool) = $options;
        let $fixture = Fixture::create(service).await;
        let mut request = $request;
        (request.request_id, request.validate_only) = (request_id.to_owned(), validate_only);
        let call = async |user: User, request| user.$client.clone().$rpc(request).await;
        $check(service, $fixture.ann.clone(), call, request).await;
    }};
}

/// Calls `$check(service, user, call, request)` for every RPC that writes. A macro because `$check` is generic over the
/// request, which a function cannot take.
macro_rules! check_every_write {
    ($options:expr, $check:ident) => {{
        check_write!($options, $check, client.create_task, |fixture| {
            let task = Task { parent_id: fixture.task.id.clone(), ..titled("New") };
            CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
        });
        check_write!($options, $check, client.update_task, |fixture| {
            let task = Task { id: fixture.task.id.clone(), ..titled("Other") };
            UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() }
        });
        check_write!($options, $check, client.delete_task, |fixture| {
            DeleteTaskRequest { id: fixture.task.id.clone(), ..DeleteTaskRequest::default() }
        });
        check_write!($options, $check, client.undelete_task, |fixture| {
            UndeleteTaskRequest { id: fixture.deleted.id.clone(), ..UndeleteTaskRequest::default() }
        });
        check_write!($options, $check, client.complete_task, |fixture| {
            CompleteTaskRequest { id: fixture.task.id.clone(), ..CompleteTaskRequest::default() }
        });
        check_write!($options, $check, client.reopen_task, |fixture| {
            ReopenTaskRequest { id: fixture.task.id.clone(), ..ReopenTaskRequest::default() }
        });
        check_write!($options, $check, client.move_task, |fixture| {
            into(&fixture.task.id, &fixture.list.id, Position::First(true))
        });
        check_write!($options, $check, client.batch_write_tasks, |fixture| {
            batch([create(titled("New")), rename(&fixture.task.id, "Other"), complete(&fixture.task.id)])
        });
        check_write!($options, $check, lists.create_task_list, |fixture| {
            let task_list = Some(TaskList { title: fixture.task.title.clone(), ..TaskList::default() });
            CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() }
        });
        check_write!($options, $check, lists.update_task_list, |fixture| {
            let (id, title) = (fixture.list.id.clone(), "Other".to_owned());
            let task_list = Some(TaskList { id, title, ..TaskList::default() });
            UpdateTaskListRequest { task_list, ..UpdateTaskListRequest::default() }
        });
        check_write!($options, $check, lists.delete_task_list, |fixture| {
            DeleteTaskListRequest { id: fixture.list.id.clone(), ..DeleteTaskListRequest::default() }
        });
    }};
}

mod dry_runs;

async fn retry_of_any_write_returns_the_first_response(database: TestDatabase) {
    async fn retry<R: Clone, M: PartialEq + Debug>(
        service: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let first = call(user.clone(), request.clone()).await.expect("a write");
        assert!(!is_replayed(&first));
        service.manual_clock.advance(Duration::from_secs(1));
        // Change all data between the first request and the retry.
        for task in user.tasks_by_rank(false).await {
            user.update(Task { id: task.id, ..titled("Changed since") }, &["title"]).await.expect("an update");
        }
        for list in user.list_lists(0, "").await.expect("a page").task_lists {
            _ = user.delete_list(&list.id, &user.id.to_string()).await;
        }
        let before = snapshot(&user).await;
        for _ in 0..2 {
            let again = call(user.clone(), request.clone()).await.expect("a retry");
            assert!(is_replayed(&again));
            assert_eq!(again.get_ref(), first.get_ref());
        }
        assert_eq!(snapshot(&user).await, before);
    }
    let service = Service::start(&database).await;
    check_every_write!((&service, ID, false), retry);
}

async fn request_id_reused_for_another_request_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let (id, request_id) = (task.id.clone(), ID.to_owned());
    let completion =
        CompleteTaskRequest { id: id.clone(), request_id: request_id.clone(), ..CompleteTaskRequest::default() };
    ann.client.clone().complete_task(completion.clone()).await.expect("a completion");

    let before = snapshot(&ann).await;
    let with_etag = CompleteTaskRequest { etag: with_revision(&task.etag, 2), ..completion.clone() };
    let outcome = ann.client.clone().complete_task(with_etag).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    // The same bytes sent to another method.
    let reopen = ReopenTaskRequest { id, request_id: request_id.clone(), ..ReopenTaskRequest::default() };
    let outcome = ann.client.clone().reopen_task(reopen).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    let task_list = Some(TaskList { title: "Errands".to_owned(), ..TaskList::default() });
    let list = CreateTaskListRequest { task_list, request_id, ..CreateTaskListRequest::default() };
    let outcome = ann.lists.clone().create_task_list(list).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    let again = ann.client.clone().complete_task(completion).await.expect("a retry");
    assert!(is_replayed(&again));
    assert_eq!(snapshot(&ann).await, before);
}

async fn failed_request_can_be_retried_with_the_same_id(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let request = UndeleteTaskRequest {
        id: task.id.clone(),
        etag: with_revision(&task.etag, 2),
        request_id: ID.to_owned(),
        ..UndeleteTaskRequest::default()
    };
    assert_refused!(ann.client.clone().undelete_task(request.clone()).await, Aborted, "ETAG_MISMATCH");
    ann.delete(&task.id, "").await.expect("a deletion");
    let first = ann.client.clone().undelete_task(request.clone()).await.expect("now the etag matches");
    assert!(!is_replayed(&first));
    let again = ann.client.clone().undelete_task(request).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.into_inner()), (true, first.into_inner()));
}

/// Returns a creation with the request id of these tests.
fn creation(title: &str) -> CreateTaskRequest {
    CreateTaskRequest { task: Some(titled(title)), request_id: ID.to_owned(), ..CreateTaskRequest::default() }
}

async fn request_ids_are_not_shared_between_users(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("the task is created");
    for title in ["Buy milk", "Buy oats"] {
        let user = if title == "Buy milk" { &bob } else { &service.user() };
        let other = user.client.clone().create_task(creation(title)).await.expect("the task is created");
        assert!(!is_replayed(&other));
        assert_ne!(other.get_ref().id, first.get_ref().id);
    }
}

async fn request_id_is_remembered_for_a_day(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("the task is created").into_inner();
    service.manual_clock.advance(DAY.saturating_sub(Duration::from_secs(1)));
    // On start, a service deletes only responses that are too old.
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    let again = ann.client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &first));
    service.manual_clock.advance(Duration::from_secs(1));
    let second = ann.client.clone().create_task(creation("Buy oats")).await.expect("the id can be used again");
    assert!(!is_replayed(&second));
    let again = ann.client.clone().create_task(creation("Buy oats")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, second.get_ref()));
    assert_eq!(ann.list_all(0, false).await, [&*second.get_ref().id, &*first.id]);
}

async fn stored_response_survives_a_restart_and_is_shared_by_replicas(database: TestDatabase) {
    let (service, replica) = (Service::start(&database).await, Service::start(&database).await);
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("the task is created").into_inner();
    let retried = ann.connected_to(&replica).client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&retried), retried.get_ref()), (true, &first));
    replica.stop().await;
    let service = service.restart(&database).await;
    let again = ann.connected_to(&service).client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &first));
}

async fn concurrent_requests_with_one_id_take_effect_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    // The user is new, so the requests also race to create the owner's row.
    let ann = service.user();
    let responses =
        join_all((0..20).map(|_| async { ann.client.clone().create_task(creation("Buy milk")).await })).await;
    let responses: Vec<_> = responses.into_iter().map(|response| response.expect("a task")).collect();
    assert_eq!(responses.iter().filter(|response| !is_replayed(response)).count(), 1);
    let ids = ann.list_all(0, false).await;
    assert_eq!(ids, [&*responses[0].get_ref().id]);
    assert!(responses.iter().all(|response| response.get_ref() == responses[0].get_ref()));
}

async fn retry_succeeds_where_a_new_request_would_exceed_the_quota(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "1"]).await;
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("the task is created");
    for _ in 0..3 {
        let again = ann.client.clone().create_task(creation("Buy milk")).await.expect("a retry");
        assert_eq!(again.get_ref(), first.get_ref());
    }
    assert_refused!(ann.create(titled("Buy oats")).await, ResourceExhausted, "QUOTA_EXCEEDED");
    // The retries do not count towards the quota.
    ann.delete(&first.get_ref().id, "").await.expect("a deletion");
    ann.make("Buy oats").await;
}

async fn request_that_changes_nothing_is_remembered_too(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let id = task.id.clone();
    let request = ReopenTaskRequest { id, request_id: ID.to_owned(), ..ReopenTaskRequest::default() };
    let first = ann.client.clone().reopen_task(request.clone()).await.expect("it is open");
    assert_eq!((is_replayed(&first), first.get_ref()), (false, &task));
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    let again = ann.client.clone().reopen_task(request).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &task));
    assert_eq!(ann.get(&task.id).await.expect("it exists"), completed);
}

async fn request_id_that_is_not_a_uuid_is_refused(database: TestDatabase) {
    async fn refuse<R: Clone, M: Debug>(
        _: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let before = snapshot(&user).await;
        assert_refused!(call(user.clone(), request).await, InvalidArgument, "VALIDATION_FAILED", "request_id");
        assert_eq!(snapshot(&user).await, before);
    }
    let service = Service::start(&database).await;
    for wrong in ["1", "0198c0de000070008000000000000001", " "] {
        check_every_write!((&service, wrong, false), refuse);
    }
    check_every_write!((&service, "\0", true), refuse);
}
