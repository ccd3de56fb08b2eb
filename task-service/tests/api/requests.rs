//! Writes that come again (AIP-155).

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
    support::{Service, User, titled},
};

on_each_database!(
    a_retry_of_any_write_answers_as_the_first_time,
    another_request_with_the_same_id_is_refused,
    a_request_that_was_refused_can_come_again,
    request_ids_are_not_shared_between_users,
    an_id_is_good_for_a_day,
    an_answer_outlives_a_restart_and_is_known_at_every_replica,
    of_many_requests_with_one_id_one_takes_effect,
    a_retry_is_answered_where_a_new_request_would_be_refused,
    a_request_that_changes_nothing_is_remembered_too,
    a_request_id_that_is_no_uuid_is_refused,
);

const ID: &str = "0198c0de-0000-7000-8000-000000000001";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether an answer was given before.
fn is_replayed<T>(response: &Response<T>) -> bool {
    response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Everything that a user has.
async fn everything(user: &User) -> (Vec<Task>, Vec<TaskList>) {
    (user.ranked(true).await, user.list_lists(0, "").await.expect("a page").task_lists)
}

/// A user with a task to write to, a deleted one, and a list.
struct Scene {
    ann: User,
    task: Task,
    gone: Task,
    list: TaskList,
}

impl Scene {
    async fn of(service: &Service) -> Self {
        let ann = service.user();
        let (task, gone, list) =
            (ann.make("Buy milk").await, ann.make("Buy oats").await, ann.make_list("Errands").await);
        ann.make_in(&list, "Buy tea").await;
        let gone = ann.delete(&gone.id, "").await.expect("a deletion");
        Self { ann, task, gone, list }
    }
}

/// Calls one RPC in a scene of its own.
macro_rules! one_write {
    ($how:expr, $each:ident, $client:ident.$rpc:ident, |$scene:ident| $request:expr) => {{
        let (service, request_id, validate_only): (&Service, &str, bool) = $how;
        let $scene = Scene::of(service).await;
        let mut request = $request;
        (request.request_id, request.validate_only) = (request_id.to_owned(), validate_only);
        let call = async |user: User, request| user.$client.clone().$rpc(request).await;
        $each(service, $scene.ann.clone(), call, request).await;
    }};
}

/// Has `$each(service, user, call, request)` done with every RPC that writes.
macro_rules! every_write {
    ($how:expr, $each:ident) => {{
        one_write!($how, $each, client.create_task, |scene| {
            let task = Task { parent_id: scene.task.id.clone(), ..titled("New") };
            CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
        });
        one_write!($how, $each, client.update_task, |scene| {
            let task = Task { id: scene.task.id.clone(), ..titled("Other") };
            UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() }
        });
        one_write!($how, $each, client.delete_task, |scene| {
            DeleteTaskRequest { id: scene.task.id.clone(), ..DeleteTaskRequest::default() }
        });
        one_write!($how, $each, client.undelete_task, |scene| {
            UndeleteTaskRequest { id: scene.gone.id.clone(), ..UndeleteTaskRequest::default() }
        });
        one_write!($how, $each, client.complete_task, |scene| {
            CompleteTaskRequest { id: scene.task.id.clone(), ..CompleteTaskRequest::default() }
        });
        one_write!($how, $each, client.reopen_task, |scene| {
            ReopenTaskRequest { id: scene.task.id.clone(), ..ReopenTaskRequest::default() }
        });
        one_write!($how, $each, client.move_task, |scene| into(&scene.task.id, &scene.list.id, Position::First(true)));
        one_write!($how, $each, client.batch_write_tasks, |scene| {
            batch([create(titled("New")), rename(&scene.task.id, "Other"), complete(&scene.task.id)])
        });
        one_write!($how, $each, lists.create_task_list, |scene| {
            let task_list = Some(TaskList { title: scene.task.title.clone(), ..TaskList::default() });
            CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() }
        });
        one_write!($how, $each, lists.update_task_list, |scene| {
            let (id, title) = (scene.list.id.clone(), "Other".to_owned());
            let task_list = Some(TaskList { id, title, ..TaskList::default() });
            UpdateTaskListRequest { task_list, ..UpdateTaskListRequest::default() }
        });
        one_write!($how, $each, lists.delete_task_list, |scene| {
            DeleteTaskListRequest { id: scene.list.id.clone(), ..DeleteTaskListRequest::default() }
        });
    }};
}

mod trials;

async fn a_retry_of_any_write_answers_as_the_first_time(database: TestDatabase) {
    async fn retry<R: Clone, M: PartialEq + Debug>(
        service: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let first = call(user.clone(), request.clone()).await.expect("a write");
        assert!(!is_replayed(&first));
        service.hands.advance(Duration::from_secs(1));
        // Whatever has become of everything since.
        for task in user.ranked(false).await {
            user.update(Task { id: task.id, ..titled("Changed since") }, &["title"]).await.expect("an update");
        }
        for list in user.list_lists(0, "").await.expect("a page").task_lists {
            _ = user.delete_list(&list.id, &user.id.to_string()).await;
        }
        let before = everything(&user).await;
        for _ in 0..2 {
            let again = call(user.clone(), request.clone()).await.expect("a retry");
            assert!(is_replayed(&again));
            assert_eq!(again.get_ref(), first.get_ref());
        }
        assert_eq!(everything(&user).await, before);
    }
    let service = Service::start(&database).await;
    every_write!((&service, ID, false), retry);
}

async fn another_request_with_the_same_id_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let (id, request_id) = (task.id.clone(), ID.to_owned());
    let done = CompleteTaskRequest { id: id.clone(), request_id: request_id.clone(), ..CompleteTaskRequest::default() };
    ann.client.clone().complete_task(done.clone()).await.expect("a completion");

    let before = everything(&ann).await;
    let with_etag = CompleteTaskRequest { etag: "\"2\"".to_owned(), ..done.clone() };
    let outcome = ann.client.clone().complete_task(with_etag).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    // The same bytes to another method.
    let reopen = ReopenTaskRequest { id, request_id: request_id.clone(), ..ReopenTaskRequest::default() };
    let outcome = ann.client.clone().reopen_task(reopen).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    let task_list = Some(TaskList { title: "Errands".to_owned(), ..TaskList::default() });
    let list = CreateTaskListRequest { task_list, request_id, ..CreateTaskListRequest::default() };
    let outcome = ann.lists.clone().create_task_list(list).await;
    assert_refused!(outcome, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    let again = ann.client.clone().complete_task(done).await.expect("a retry");
    assert!(is_replayed(&again));
    assert_eq!(everything(&ann).await, before);
}

async fn a_request_that_was_refused_can_come_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let request = UndeleteTaskRequest {
        id: task.id.clone(),
        etag: "\"2\"".to_owned(),
        request_id: ID.to_owned(),
        ..UndeleteTaskRequest::default()
    };
    assert_refused!(ann.client.clone().undelete_task(request.clone()).await, Aborted, "ETAG_MISMATCH");
    ann.delete(&task.id, "").await.expect("a deletion");
    let done = ann.client.clone().undelete_task(request.clone()).await.expect("now it is that etag");
    assert!(!is_replayed(&done));
    let again = ann.client.clone().undelete_task(request).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.into_inner()), (true, done.into_inner()));
}

/// A creation with the id of all of these tests.
fn creation(title: &str) -> CreateTaskRequest {
    CreateTaskRequest { task: Some(titled(title)), request_id: ID.to_owned(), ..CreateTaskRequest::default() }
}

async fn request_ids_are_not_shared_between_users(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let hers = ann.client.clone().create_task(creation("Buy milk")).await.expect("a task is made");
    for title in ["Buy milk", "Buy oats"] {
        let user = if title == "Buy milk" { &bob } else { &service.user() };
        let his = user.client.clone().create_task(creation(title)).await.expect("a task is made");
        assert!(!is_replayed(&his));
        assert_ne!(his.get_ref().id, hers.get_ref().id);
    }
}

async fn an_id_is_good_for_a_day(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("a task is made").into_inner();
    service.hands.advance(DAY.saturating_sub(Duration::from_secs(1)));
    // A service that starts forgets what is too old, and nothing else.
    let service = service.restart(&database).await;
    let ann = ann.at(&service);
    let again = ann.client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &first));
    service.hands.advance(Duration::from_secs(1));
    let anew = ann.client.clone().create_task(creation("Buy oats")).await.expect("it is as good as new");
    assert!(!is_replayed(&anew));
    let again = ann.client.clone().create_task(creation("Buy oats")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, anew.get_ref()));
    assert_eq!(ann.list_all(0, false).await, [&*anew.get_ref().id, &*first.id]);
}

async fn an_answer_outlives_a_restart_and_is_known_at_every_replica(database: TestDatabase) {
    let (service, replica) = (Service::start(&database).await, Service::start(&database).await);
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("a task is made").into_inner();
    let there = ann.at(&replica).client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&there), there.get_ref()), (true, &first));
    replica.stop().await;
    let service = service.restart(&database).await;
    let again = ann.at(&service).client.clone().create_task(creation("Buy milk")).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &first));
}

async fn of_many_requests_with_one_id_one_takes_effect(database: TestDatabase) {
    let service = Service::start(&database).await;
    // Not even their owner is known before.
    let ann = service.user();
    let answers = join_all((0..20).map(|_| async { ann.client.clone().create_task(creation("Buy milk")).await })).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("a task")).collect();
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    let ids = ann.list_all(0, false).await;
    assert_eq!(ids, [&*answers[0].get_ref().id]);
    assert!(answers.iter().all(|answer| answer.get_ref() == answers[0].get_ref()));
}

async fn a_retry_is_answered_where_a_new_request_would_be_refused(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "1"]).await;
    let ann = service.user();
    let first = ann.client.clone().create_task(creation("Buy milk")).await.expect("a task is made");
    for _ in 0..3 {
        let again = ann.client.clone().create_task(creation("Buy milk")).await.expect("a retry");
        assert_eq!(again.get_ref(), first.get_ref());
    }
    assert_refused!(ann.create(titled("Buy oats")).await, ResourceExhausted, "QUOTA_EXCEEDED");
    // No retry has taken up any room.
    ann.delete(&first.get_ref().id, "").await.expect("a deletion");
    ann.make("Buy oats").await;
}

async fn a_request_that_changes_nothing_is_remembered_too(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let id = task.id.clone();
    let request = ReopenTaskRequest { id, request_id: ID.to_owned(), ..ReopenTaskRequest::default() };
    let first = ann.client.clone().reopen_task(request.clone()).await.expect("it is open");
    assert_eq!((is_replayed(&first), first.get_ref()), (false, &task));
    let done = ann.complete(&task.id, "").await.expect("a completion");
    let again = ann.client.clone().reopen_task(request).await.expect("a retry");
    assert_eq!((is_replayed(&again), again.get_ref()), (true, &task));
    assert_eq!(ann.get(&task.id).await.expect("it is there"), done);
}

async fn a_request_id_that_is_no_uuid_is_refused(database: TestDatabase) {
    async fn refuse<R: Clone, M: Debug>(
        _: &Service,
        user: User,
        call: impl AsyncFn(User, R) -> Result<Response<M>, Status>,
        request: R,
    ) {
        let before = everything(&user).await;
        assert_refused!(call(user.clone(), request).await, InvalidArgument, "VALIDATION_FAILED", "request_id");
        assert_eq!(everything(&user).await, before);
    }
    let service = Service::start(&database).await;
    for wrong in ["1", "0198c0de000070008000000000000001", " "] {
        every_write!((&service, wrong, false), refuse);
    }
    every_write!((&service, "\0", true), refuse);
}
