//! Occurrences that are skipped, and recurrences that are stopped, in a batch.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, StopRecurrenceRequest, Task,
    batch_write_tasks_request::write::Write as Kind,
};
use tonic_types::StatusExt;

use super::recurring;
use crate::{
    calls::{after, batch, complete, create, rename, skip, stop, to},
    support::{Service, User, titled},
};

on_each_database!(
    a_batch_skips_occurrences_and_stops_recurrences_in_order,
    a_batch_skips_the_occurrence_that_it_has_created,
    a_refused_skip_or_stop_rolls_back_the_batch,
    a_repeated_batch_skips_once,
    a_batch_has_the_same_history_as_single_calls,
    a_batch_can_move_a_task_after_the_occurrence_that_it_has_completed,
    rules_that_occupy_the_server_for_long_are_refused_in_one_batch,
);

/// Occurs in 2072, and after 14,608 days in 2112.
const RARE: &str = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;SKIP=OMIT";

async fn a_batch_skips_occurrences_and_stops_recurrences_in_order(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let skipped = ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await;
    let stopped = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let plain = ann.make("Buy milk").await;

    let writes = [skip(&skipped.id), skip(&skipped.id), skip(&stopped.id), stop(&stopped.id), stop(&plain.id)];
    let written = ann.batch(writes).await.expect("a batch");

    let due: Vec<_> = written.iter().map(|task| (&task.id, &task.due_date[..])).collect();
    let id = &skipped.id;
    assert_eq!(due[..2], [(id, "2090-02-28"), (id, "2090-03-31")]);
    assert_eq!(due[2..4], [(&stopped.id, "2090-02-01"); 2]);
    let recur: Vec<_> = written.iter().map(|task| task.recurrence.is_some()).collect();
    assert_eq!(recur, [true, true, true, false, false]);
    assert_eq!(written[4], plain);
    assert_eq!(ann.get(&skipped.id).await.expect("it exists"), written[1]);
    assert_eq!(ann.get(&stopped.id).await.expect("it exists"), written[3]);
    assert_eq!(ann.list_all(0, true).await.len(), 3);
}

async fn a_batch_skips_the_occurrence_that_it_has_created(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task_id = ann.new_id();
    let task = Some(recurring("2090-01-31", "FREQ=DAILY"));
    let create = Kind::Create(CreateTaskRequest { task, task_id: task_id.clone(), ..CreateTaskRequest::default() });
    let written = ann.batch([create, skip(&task_id), complete(&task_id)]).await.expect("a batch");
    assert_eq!(written[2].due_date, "2090-02-01");
    let next = ann.get(&written[2].next_task_id).await.expect("there is a next occurrence");
    assert_eq!(next.due_date, "2090-02-02");
}

async fn a_refused_skip_or_stop_rolls_back_the_batch(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let plain = ann.make("Buy milk").await;
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    let (missing, tasks) = (ann.new_id(), ann.tasks_by_rank(true).await);
    let failing = async |write| ann.batch([rename(&plain.id, "renamed"), write]).await;

    let outcome = failing(skip(&plain.id)).await;
    assert_refused!(outcome, FailedPrecondition, "TASK_NOT_RECURRING", "writes[1].skip_occurrence.id");
    assert_refused!(failing(skip(&missing)).await, NotFound, "TASK_NOT_FOUND", "writes[1].skip_occurrence.id");
    assert_refused!(failing(stop(&missing)).await, NotFound, "TASK_NOT_FOUND", "writes[1].stop_recurrence.id");
    let stale = StopRecurrenceRequest { etag: plain.etag.clone(), id: task.id.clone(), ..Default::default() };
    let outcome = failing(Kind::StopRecurrence(stale)).await;
    assert_refused!(outcome, Aborted, "ETAG_MISMATCH", "writes[1].stop_recurrence.id");
    let outcome = failing(stop(&task.id)).await;
    let status = outcome.as_ref().expect_err("the call was not refused");
    let metadata = status.get_details_error_info().expect("every error has an ErrorInfo").metadata;
    assert_eq!(metadata.get("write").map(String::as_str), Some("1"));
    assert_eq!(metadata.get("next_task_id"), Some(&completed.next_task_id));
    assert_refused!(outcome, FailedPrecondition, "TASK_NOT_RECURRING", "writes[1].stop_recurrence.id");
    assert_eq!(ann.tasks_by_rank(true).await, tasks);
}

async fn a_repeated_batch_skips_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let dry_run = BatchWriteTasksRequest { validate_only: true, ..batch([skip(&task.id)]) };
    let request = BatchWriteTasksRequest { request_id: ann.new_id(), ..batch([skip(&task.id)]) };
    for request in [dry_run, request.clone(), request] {
        let written = ann.client.clone().batch_write_tasks(request).await.expect("a batch").into_inner().tasks;
        assert_eq!(written[0].due_date, "2090-02-01");
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists").due_date, "2090-02-01");
}

/// Returns the fields, old values and new values of all changes of a task, sorted, without the id of the series.
async fn all_changes(user: &User, task: &Task) -> Vec<[String; 3]> {
    let entries = user.history(&task.id).await.into_iter().filter(|entry| entry.field != "series_id");
    let mut changes: Vec<_> = entries.map(|entry| [entry.field, entry.old_value, entry.new_value]).collect();
    changes.sort();
    changes
}

async fn a_batch_has_the_same_history_as_single_calls(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let single = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let batched = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    ann.skip(&single.id).await.expect("a skip");
    ann.batch([skip(&batched.id)]).await.expect("a batch");
    ann.stop(&single.id).await.expect("a stop");
    ann.batch([stop(&batched.id)]).await.expect("a batch");
    let changes = all_changes(&ann, &batched).await;
    assert_eq!(changes, all_changes(&ann, &single).await);
    let fields: Vec<_> = changes.iter().map(|[field, ..]| &field[..]).collect();
    assert!(fields.contains(&"due_date") && fields.contains(&"recurrence"), "{fields:?}");
}

async fn a_batch_can_move_a_task_after_the_occurrence_that_it_has_completed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [first, second] = [ann.make("First").await, ann.make("Second").await];
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let writes = [
        complete(&task.id),
        Kind::Move(to(&first.id, after(&task))),
        Kind::Move(to(&second.id, after(&task))),
        Kind::Create(CreateTaskRequest { task: Some(titled("Third")), ..CreateTaskRequest::default() }),
    ];
    ann.batch(writes).await.expect("a batch");
    let titles = ann.top_level_titles(&ann.id.to_string()).await;
    assert_eq!(titles, ["Water the plants", "Third", "Water the plants", "Second", "First"]);
    ann.make("Fourth").await;
    assert_eq!(ann.top_level_titles(&ann.id.to_string()).await.last().map(String::as_str), Some("Fourth"));
}

async fn rules_that_occupy_the_server_for_long_are_refused_in_one_batch(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.batch((0..14).map(|_| create(recurring("2072-02-29", RARE)))).await.expect("a batch");
    let ids: Vec<_> = created.iter().map(|task| &task.id[..]).collect();
    let refused = ann.batch(ids.iter().map(|id| complete(id))).await;
    assert_refused!(refused, ResourceExhausted, "QUOTA_EXCEEDED", "writes[13].complete.id");
    let refused = ann.batch(ids.iter().map(|id| skip(id))).await;
    assert_refused!(refused, ResourceExhausted, "QUOTA_EXCEEDED", "writes[13].skip_occurrence.id");
    let completed = ann.batch(ids[..13].iter().map(|id| complete(id))).await.expect("a batch");
    assert_eq!(ann.get(&completed[12].next_task_id).await.expect("an occurrence").due_date, "2112-02-29");

    let field = "writes[13].create.task.recurrence.rrule";
    let rare = |count| (0..count).map(|_| create(recurring("2072-03-01", RARE)));
    assert_refused!(ann.batch(rare(14)).await, InvalidArgument, "VALIDATION_FAILED", field);
    ann.batch(rare(13)).await.expect("a batch");
}
