//! `BatchWriteTasks`.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, MoveTaskRequest,
    ReopenTaskRequest, SkipOccurrenceRequest, StopRecurrenceRequest, Task, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
    task::State,
};
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    calls::{after, batch, before, complete, create, delete, rename, skip, stop, to, under},
    order::make,
    support::{Service, titled, with_revision},
};

on_each_database!(
    results_are_in_the_order_of_the_writes,
    each_write_sees_the_effects_of_earlier_ones,
    missing_task_with_allow_missing_yields_an_empty_result,
    failed_write_rolls_back_the_batch,
    field_violations_include_the_path_of_the_write,
    violations_of_all_writes_are_reported_together,
    failed_write_is_identified,
    batch_takes_one_to_a_hundred_writes,
    writes_have_no_request_id_or_validate_only,
    hundred_moves_are_applied_in_order,
);

const LAST: Position = Position::Last(true);

/// Returns the index of the failed write, from the error's metadata.
fn failed_write<T: std::fmt::Debug>(outcome: &Result<T, Status>) -> String {
    let status = outcome.as_ref().expect_err("the call was not refused");
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    info.metadata.get("write").cloned().unwrap_or_default()
}

async fn results_are_in_the_order_of_the_writes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let tasks = make(&ann, ["A", "B", "C", "D", "E"]).await;
    let [a, deleted, completed, reopened, moved] = tasks.each_ref().map(|task| &task.id);
    ann.complete(reopened, "").await.expect("a completion");

    let written = ann
        .batch([
            create(Task { list_id: list.id.clone(), ..titled("new") }),
            rename(a, "renamed"),
            delete(deleted),
            complete(completed),
            Kind::Reopen(ReopenTaskRequest { id: reopened.clone(), ..ReopenTaskRequest::default() }),
            Kind::Move(under(moved, a, LAST)),
        ])
        .await
        .expect("a batch");

    for task in &written {
        assert_eq!(ann.get(&task.id).await.expect("it exists"), *task);
    }
    let ids: Vec<_> = written[1..].iter().map(|task| &task.id).collect();
    assert_eq!(ids, [a, deleted, completed, reopened, moved]);
    assert_eq!((&written[0].title[..], &written[0].list_id), ("new", &list.id));
    assert_eq!(written[1].title, "renamed");
    assert!(written[2].delete_time.is_some());
    assert_eq!((written[3].state(), written[4].state()), (State::Completed, State::Open));
    assert_eq!(&written[5].parent_id, a);
}

async fn each_write_sees_the_effects_of_earlier_ones(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, parent) = (ann.make("A").await, ann.make("P").await);
    let with_etag = |title: &str, etag: &str| {
        let task = Task { id: task.id.clone(), etag: etag.to_owned(), ..titled(title) };
        Kind::Update(UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() })
    };
    let writes = [
        with_etag("B", &task.etag),
        complete(&task.id),
        with_etag("C", &with_revision(&task.etag, 3)),
        Kind::Move(under(&task.id, &parent.id, LAST)),
    ];
    let tasks = ann.batch(writes).await.expect("a batch");
    let seen: Vec<_> = tasks.iter().map(|task| (&task.title[..], task.etag.clone(), task.state())).collect();
    let (open, done) = (State::Open, State::Completed);
    let expected = [("B", 2, open), ("B", 3, done), ("C", 4, done), ("C", 5, done)];
    assert_eq!(seen, expected.map(|(title, revision, state)| (title, with_revision(&task.etag, revision), state)));
    assert_eq!(ann.get(&task.id).await.expect("it exists"), tasks[3]);

    // A subtask that was deleted with its parent does not exist for the next write.
    let outcome = ann.batch([delete(&parent.id), complete(&task.id)]).await;
    assert_eq!(failed_write(&outcome), "1");
    assert_refused!(outcome, NotFound, "TASK_NOT_FOUND", "writes[1].complete.id");
    // A subtask that was moved away first is not deleted.
    let tasks =
        ann.batch([Kind::Move(to(&task.id, LAST)), delete(&parent.id), rename(&task.id, "D")]).await.expect("a batch");
    assert_eq!((&tasks[2].title[..], tasks[2].delete_time), ("D", None));
}

async fn missing_task_with_allow_missing_yields_an_empty_result(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let missing = DeleteTaskRequest {
        id: service.clock.new_id().to_string(),
        allow_missing: true,
        ..DeleteTaskRequest::default()
    };
    let tasks = ann.batch([Kind::Delete(missing), complete(&task.id)]).await.expect("a batch");
    assert_eq!((&tasks[0], &tasks[1].id), (&Task::default(), &task.id));
}

async fn failed_write_rolls_back_the_batch(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b] = [ann.make("A").await, ann.make("B").await];
    let before = ann.tasks_by_rank(true).await;
    let missing = service.clock.new_id().to_string();
    let valid_writes = || {
        [create(titled("new")), rename(&a.id, "renamed"), Kind::Move(to(&b.id, Position::First(true))), delete(&b.id)]
    };
    for index in 0..=valid_writes().len() {
        let mut writes = Vec::from(valid_writes());
        writes.insert(index, complete(&missing));
        let outcome = ann.batch(writes).await;
        assert_eq!(failed_write(&outcome), index.to_string());
        assert_refused!(outcome, NotFound, "TASK_NOT_FOUND", format!("writes[{index}].complete.id"));
        assert_eq!(ann.tasks_by_rank(true).await, before);
    }
}

async fn field_violations_include_the_path_of_the_write(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let update = |task| Kind::Update(UpdateTaskRequest { task, ..UpdateTaskRequest::default() });
    for (write, field) in [
        (Some(create(titled(""))), "writes[2].create.task.title"),
        (Some(create(Task { list_id: "1".to_owned(), ..titled("B") })), "writes[2].create.task.list_id"),
        (Some(rename(&task.id, "\0")), "writes[2].update.task.title"),
        (Some(update(None)), "writes[2].update.task"),
        (Some(delete("1")), "writes[2].delete.id"),
        (Some(complete("")), "writes[2].complete.id"),
        (Some(Kind::Reopen(ReopenTaskRequest::default())), "writes[2].reopen.id"),
        (Some(Kind::Move(under(&task.id, "1", LAST))), "writes[2].move.parent_id"),
        (Some(skip("1")), "writes[2].skip_occurrence.id"),
        (Some(stop("")), "writes[2].stop_recurrence.id"),
        (None, "writes[2]"),
    ] {
        let mut request = batch([complete(&task.id), complete(&task.id)]);
        request.writes.push(Write { write });
        let outcome = ann.client.clone().batch_write_tasks(request).await;
        assert_eq!(failed_write(&outcome), "2");
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn violations_of_all_writes_are_reported_together(database: TestDatabase) {
    let service = Service::start(&database).await;
    let invalid = Task { notes: "\0".to_owned(), ..titled("") };
    let outcome = service.user().batch([create(titled("A")), create(invalid), delete("1")]).await;
    assert_eq!(failed_write(&outcome), "1");
    assert_refused!(
        outcome,
        InvalidArgument,
        "VALIDATION_FAILED",
        "writes[1].create.task.notes",
        "writes[1].create.task.title",
        "writes[2].delete.id",
    );
}

async fn failed_write_is_identified(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let missing = service.clock.new_id().to_string();
    let failing = async |write| ann.batch([create(titled("new")), write]).await;

    let outcome = failing(rename(&missing, "B")).await;
    assert_refused!(outcome, NotFound, "TASK_NOT_FOUND", "writes[1].update.task.id");
    let stale = CompleteTaskRequest {
        id: task.id.clone(),
        etag: with_revision(&task.etag, 7),
        ..CompleteTaskRequest::default()
    };
    let outcome = failing(Kind::Complete(stale)).await;
    assert_eq!(failed_write(&outcome), "1");
    assert_refused!(outcome, Aborted, "ETAG_MISMATCH", "writes[1].complete.id");
    let outcome = failing(create(Task { parent_id: missing.clone(), ..titled("B") })).await;
    assert_eq!(failed_write(&outcome), "1");
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "writes[1].create.task.parent_id");
    let outcome = failing(create(Task { list_id: missing.clone(), ..titled("B") })).await;
    assert_refused!(outcome, NotFound, "LIST_NOT_FOUND", "writes[1].create.task.list_id");
    let into = MoveTaskRequest { list_id: missing.clone(), ..to(&task.id, LAST) };
    assert_refused!(failing(Kind::Move(into)).await, NotFound, "LIST_NOT_FOUND", "writes[1].move.list_id");
    let outcome = failing(Kind::Move(to(&task.id, before(&task)))).await;
    let message = "writes[1].move.before_id: is not an active sibling at the new position";
    assert_eq!(outcome.as_ref().expect_err("the call was not refused").message(), message);
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "writes[1].move.before_id");
    assert_eq!(ann.tasks_by_rank(true).await, [task]);
}

async fn batch_takes_one_to_a_hundred_writes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for count in [0, 101, 500] {
        let outcome = ann.batch((0..count).map(|_| create(titled("A")))).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "writes");
    }
    assert_eq!(ann.list_all(0, true).await, [""; 0]);
    let titles: Vec<_> = (0..100).map(|index| index.to_string()).collect();
    let tasks = ann.batch(titles.iter().map(|title| create(titled(title)))).await.expect("a batch");
    assert!(tasks.is_sorted_by(|one, other| one.id < other.id && one.rank < other.rank));
    assert_eq!(tasks.into_iter().map(|task| task.title).collect::<Vec<_>>(), titles);
    assert_eq!(ann.top_level_titles(&ann.id.to_string()).await, titles);
    ann.batch([create(titled("A"))]).await.expect("one is enough");
}

async fn writes_have_no_request_id_or_validate_only(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let (id, etag) = (task.id.clone(), String::new());
    let request_id = service.clock.new_id().to_string();
    let update = UpdateTaskRequest { task: Some(task.clone()), ..UpdateTaskRequest::default() };
    let assert_refuses_own = async |name: &str, kind: Kind| {
        let batch = BatchWriteTasksRequest { writes: vec![Write { write: Some(kind) }], ..Default::default() };
        let outcome = ann.client.clone().batch_write_tasks(batch).await;
        let fields = ["request_id", "validate_only"].map(|field| format!("writes[0].{name}.{field}"));
        let [request_id, validate_only] = fields;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", request_id, validate_only);
    };
    let Kind::Create(creation) = create(titled("B")) else { unreachable!("`create` returns a creation") };
    let (request_id, validate_only) = (|| request_id.clone(), true);
    let create = CreateTaskRequest { request_id: request_id(), validate_only, ..creation };
    let update = UpdateTaskRequest { request_id: request_id(), validate_only, ..update };
    let delete = DeleteTaskRequest { id: id.clone(), request_id: request_id(), validate_only, ..Default::default() };
    let complete =
        CompleteTaskRequest { id: id.clone(), request_id: request_id(), validate_only, ..Default::default() };
    let reopen = ReopenTaskRequest { id: id.clone(), etag: etag.clone(), request_id: request_id(), validate_only };
    let skip = SkipOccurrenceRequest { id: id.clone(), etag: etag.clone(), request_id: request_id(), validate_only };
    let stop = StopRecurrenceRequest { id: id.clone(), etag, request_id: request_id(), validate_only };
    let to_end = MoveTaskRequest { request_id: request_id(), validate_only, ..to(&id, LAST) };
    assert_refuses_own("create", Kind::Create(create)).await;
    assert_refuses_own("update", Kind::Update(update)).await;
    assert_refuses_own("delete", Kind::Delete(delete)).await;
    assert_refuses_own("complete", Kind::Complete(complete)).await;
    assert_refuses_own("reopen", Kind::Reopen(reopen)).await;
    assert_refuses_own("move", Kind::Move(to_end)).await;
    assert_refuses_own("skip_occurrence", Kind::SkipOccurrence(skip)).await;
    assert_refuses_own("stop_recurrence", Kind::StopRecurrence(stop)).await;
    assert_eq!(ann.tasks_by_rank(true).await, [task]);
}

async fn hundred_moves_are_applied_in_order(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let titles: Vec<_> = (0..100).map(|index| index.to_string()).collect();
    let tasks = ann.batch(titles.iter().map(|title| create(titled(title)))).await.expect("a batch");
    let mut order: Vec<_> = tasks.iter().collect();
    let mut moves = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        // A different anchor each time, often one that was moved before.
        order.retain(|other| other.id != task.id);
        let at = index * 37 % order.len();
        let anchor = order[at];
        let (position, at) = if index % 2 == 0 { (before(anchor), at) } else { (after(anchor), at + 1) };
        order.insert(at, task);
        moves.push(Kind::Move(to(&task.id, position)));
    }
    let moved = ann.batch(moves).await.expect("a batch");
    let expected: Vec<_> = order.iter().map(|task| task.title.clone()).collect();
    assert_eq!(ann.top_level_titles(&ann.id.to_string()).await, expected);
    assert!(moved.iter().zip(&tasks).all(|(moved, task)| moved.id == task.id));
}
