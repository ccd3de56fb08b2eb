//! Ids of tasks that the client has chosen.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CreateTaskRequest, Task, batch_write_tasks_request::write::Write as Kind, move_task_request::Position,
};
use tonic::Status;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    calls::{before, complete, delete, rename, to, under},
    support::{Service, User, titled},
};

on_each_database!(
    created_task_has_the_chosen_id,
    chosen_id_can_have_any_version,
    id_of_another_task_is_taken,
    id_of_another_account_is_not_taken,
    ids_of_lists_are_taken,
    id_of_a_purged_task_is_taken,
    creation_is_repeated_by_its_request_id,
    dry_run_does_not_take_the_id,
    batch_can_name_the_tasks_that_it_creates,
    batch_can_move_tasks_beside_one_that_it_creates,
    id_can_be_chosen_once_in_a_batch,
    task_is_not_known_before_the_write_that_creates_it,
    id_that_is_not_a_uuid_is_refused,
);

/// An id of version 4.
const ID: &str = "5c60f693-bef5-4018-b5a8-2d8e1e4f0d6a";

const DAY: Duration = Duration::from_secs(24 * 3600);

fn creation(id: &str, task: Task) -> CreateTaskRequest {
    CreateTaskRequest { task: Some(task), task_id: id.to_owned(), ..CreateTaskRequest::default() }
}

fn create(id: &str, title: &str) -> Kind {
    Kind::Create(creation(id, titled(title)))
}

impl User {
    async fn create_with_id(&self, id: &str) -> Result<Task, Status> {
        Ok(self.client.clone().create_task(creation(id, titled("Buy milk"))).await?.into_inner())
    }
}

async fn created_task_has_the_chosen_id(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.create_with_id(&ID.to_uppercase()).await.expect("the task is created");
    assert_eq!(created.id, ID);
    assert_eq!(ann.get(ID).await.expect("it exists"), created);
}

async fn chosen_id_can_have_any_version(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for id in [Uuid::nil(), Uuid::from_u128(1), Uuid::max()].map(|id| id.to_string()) {
        assert_eq!(ann.create_with_id(&id).await.expect("the task is created").id, id);
    }
    assert_eq!(ann.tasks_by_rank(false).await.len(), 3);
}

async fn id_of_another_task_is_taken(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    assert_refused!(ann.create_with_id(&task.id).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
    ann.delete(&task.id, "").await.expect("a deletion");
    assert_refused!(ann.create_with_id(&task.id).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
    assert_eq!(ann.get(&task.id).await.expect("it exists").title, "Buy milk");
}

async fn id_of_another_account_is_not_taken(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let hers = ann.make("Buy milk").await;
    let his = bob.create_with_id(&hers.id).await.expect("the task is created");
    bob.update(Task { id: his.id, ..titled("Buy oats") }, &[]).await.expect("an update");
    assert_eq!(ann.get(&hers.id).await.expect("it exists"), hers);
}

async fn ids_of_lists_are_taken(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    for id in [list.id, ann.id.to_string()] {
        assert_refused!(ann.create_with_id(&id).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
    }
}

async fn id_of_a_purged_task_is_taken(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.create_with_id(ID).await.expect("the task is created");
    ann.delete(ID, "").await.expect("a deletion");
    // First hidden, and then replaced by a tombstone when the service starts.
    service.manual_clock.advance(30 * DAY);
    assert_refused!(ann.get(ID).await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.create_with_id(ID).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    assert_refused!(ann.create_with_id(ID).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
}

async fn creation_is_repeated_by_its_request_id(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let request = CreateTaskRequest { request_id: Uuid::max().to_string(), ..creation(ID, titled("Buy milk")) };
    let first = ann.client.clone().create_task(request.clone()).await.expect("the task is created").into_inner();
    let again = ann.client.clone().create_task(request).await.expect("a retry").into_inner();
    assert_eq!(again, first);
}

async fn dry_run_does_not_take_the_id(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let request = CreateTaskRequest { validate_only: true, ..creation(ID, titled("Buy milk")) };
    let expected = ann.client.clone().create_task(request.clone()).await.expect("a dry run").into_inner();
    assert_eq!(ann.create_with_id(ID).await.expect("the task is created").id, expected.id);
    assert_refused!(ann.client.clone().create_task(request).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
}

async fn batch_can_name_the_tasks_that_it_creates(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [parent, child, deleted] = [(); 3].map(|()| service.clock.new_id().to_string());
    let subtask = creation(&child, Task { parent_id: parent.clone(), ..titled("Pack") });
    let written = ann
        .batch([
            create(&parent, "Move house"),
            Kind::Create(subtask),
            rename(&child, "Pack the books"),
            complete(&child),
            create(&deleted, "Book a van"),
            delete(&deleted),
        ])
        .await
        .expect("a batch");
    assert_eq!(written[1].parent_id, parent);
    assert_eq!(ann.get(&child).await.expect("it exists"), written[3]);
    assert_eq!((&written[3].title[..], written[3].complete_time.is_some()), ("Pack the books", true));
    assert!(ann.get(&deleted).await.expect("it exists").delete_time.is_some());
}

async fn batch_can_move_tasks_beside_one_that_it_creates(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (first, _second, third) = (ann.make("1").await, ann.make("2").await, ann.make("3").await);
    let created = Task { id: ID.to_owned(), ..Task::default() };
    let writes = [
        create(ID, "new"),
        Kind::Move(to(ID, before(&third))),
        Kind::Move(to(&first.id, Position::AfterId(ID.to_owned()))),
        Kind::Move(to(&third.id, before(&created))),
    ];
    ann.batch(writes).await.expect("a batch");
    assert_eq!(ann.top_level_titles(&ann.id.to_string()).await, ["2", "3", "new", "1"]);
    let parent = service.clock.new_id().to_string();
    ann.batch([create(&parent, "parent"), Kind::Move(under(ID, &parent, Position::First(true)))])
        .await
        .expect("a batch");
    assert_eq!(ann.get(ID).await.expect("it exists").parent_id, parent);
}

async fn id_can_be_chosen_once_in_a_batch(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let outcome = ann.batch([create(ID, "A"), create(ID, "B")]).await;
    assert_refused!(outcome, AlreadyExists, "TASK_ID_TAKEN", "writes[1].create.task_id");
    assert_refused!(ann.get(ID).await, NotFound, "TASK_NOT_FOUND");
}

async fn task_is_not_known_before_the_write_that_creates_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let outcome = ann.batch([complete(ID), create(ID, "A")]).await;
    let info = outcome.as_ref().expect_err("refused").get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata["write"], "0");
    assert_refused!(outcome, NotFound, "TASK_NOT_FOUND", "writes[0].complete.id");
}

async fn id_that_is_not_a_uuid_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for id in ["mine", "5c60f693", &format!("{ID}0"), &format!("{{{ID}}}")] {
        assert_refused!(ann.create_with_id(id).await, InvalidArgument, "VALIDATION_FAILED", "task_id");
    }
    let outcome = ann.batch([create("mine", "A")]).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "writes[0].create.task_id");
}
