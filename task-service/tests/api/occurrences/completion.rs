//! The completion of an occurrence.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, CreateTaskRequest, ListTasksRequest, Task,
    batch_write_tasks_request::write::Write as Kind,
    recurrence::{Basis, CatchUp},
    task::{Priority, State},
};

use super::{recurring, stored};
use crate::{
    calls::complete,
    support::{Service, titled, with_revision},
};

on_each_database!(
    completion_keeps_the_occurrence_and_creates_the_next_one,
    next_occurrence_is_in_the_feed_and_in_lists,
    occurrence_has_at_most_one_next_one,
    repeated_request_returns_the_same_next_occurrence,
    dry_run_creates_no_next_occurrence,
    rule_that_has_ended_has_no_next_occurrence,
    occurrences_are_completed_in_batches,
    quota_applies_to_the_next_occurrence,
    many_occurrences_of_one_series_keep_their_position,
    filter_selects_the_occurrences_of_a_series,
);

async fn completion_keeps_the_occurrence_and_creates_the_next_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Home").await;
    let first = ann.make_in(&list, "First").await;
    let task = Task {
        list_id: list.id.clone(),
        notes: "all of them".to_owned(),
        priority: Priority::High.into(),
        time_zone: "Europe/Berlin".to_owned(),
        labels: vec!["garden".to_owned()],
        ..recurring("2090-01-31", "FREQ=MONTHLY")
    };
    let task = ann.create(task).await.expect("the task is created");
    let last = ann.make_in(&list, "Last").await;
    assert_eq!(task.recurrence, Some(stored("FREQ=MONTHLY", Basis::Due, CatchUp::Skip)));
    assert_eq!(task.recurrence_text, "every month on the 31st (or the last day of a shorter month)");
    assert_eq!((&task.occurrence_date[..], &task.next_task_id[..]), ("2090-01-31", ""));

    let completed = ann.complete(&task.id, "").await.expect("a completion");
    assert_eq!(completed.state(), State::Completed);
    assert_eq!(completed.etag, with_revision(&task.etag, 2));
    assert_eq!((&completed.due_date, &completed.occurrence_date), (&task.due_date, &task.occurrence_date));
    let next = ann.get(&completed.next_task_id).await.expect("there is a next occurrence");
    let expected = Task {
        id: next.id.clone(),
        due_date: "2090-02-28".to_owned(),
        occurrence_date: "2090-02-28".to_owned(),
        create_time: completed.complete_time,
        update_time: completed.complete_time,
        ..task.clone()
    };
    assert_eq!(next, expected);
    let order: Vec<_> = ann.tasks_by_rank(false).await.into_iter().map(|task| task.id).collect();
    assert_eq!(order, [&first.id, &next.id, &last.id, &completed.id].map(Clone::clone));
    assert_eq!(ann.advance(&next).await.due_date, "2090-03-31");
}

async fn next_occurrence_is_in_the_feed_and_in_lists(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let token = ann.current_sync_token().await;
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    let changes = ann.changes(&token, 500).await.expect("a page").changes;
    let changed: Vec<_> = changes.into_iter().filter_map(|change| change.task).collect();
    let next = ann.get(&completed.next_task_id).await.expect("there is a next occurrence");
    assert_eq!(changed.len(), 2);
    assert!(changed.contains(&completed) && changed.contains(&next));
    // Lists encode tasks by themselves.
    let listed = ann.tasks_by_rank(false).await;
    assert!(listed.contains(&completed) && listed.contains(&next));
}

async fn occurrence_has_at_most_one_next_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let next = ann.advance(&task).await;
    assert_eq!(ann.complete(&task.id, "").await.expect("it is completed").next_task_id, next.id);
    let reopened = ann.reopen(&task.id, "").await.expect("a reopening");
    assert_eq!((reopened.state(), &reopened.next_task_id), (State::Open, &next.id));
    assert_eq!(ann.complete(&task.id, "").await.expect("a completion").next_task_id, next.id);
    ann.delete(&next.id, "").await.expect("a deletion");
    ann.reopen(&task.id, "").await.expect("a reopening");
    assert_eq!(ann.complete(&task.id, "").await.expect("a completion").next_task_id, next.id);
    assert_eq!(ann.list_all(0, true).await.len(), 2);
}

async fn repeated_request_returns_the_same_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let request_id = ann.new_id();
    let request = CompleteTaskRequest { id: task.id, request_id, ..CompleteTaskRequest::default() };
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(ann.client.clone().complete_task(request.clone()).await.expect("a completion").into_inner());
    }
    assert!(responses.iter().all(|response| *response == responses[0] && !response.next_task_id.is_empty()));
    assert_eq!(ann.list_all(0, true).await.len(), 2);
}

async fn dry_run_creates_no_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let request = CompleteTaskRequest { id: task.id.clone(), validate_only: true, ..CompleteTaskRequest::default() };
    let predicted = ann.client.clone().complete_task(request).await.expect("a dry run").into_inner();
    assert_ne!(predicted.next_task_id, "");
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
    assert_eq!(ann.list_all(0, true).await, [task.id]);
}

async fn rule_that_has_ended_has_no_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for rrule in ["FREQ=DAILY;COUNT=2", "FREQ=DAILY;UNTIL=20900102", "FREQ=DAILY;UNTIL=20900102T235959Z"] {
        let next = ann.advance(&ann.make_recurring("2090-01-01", rrule).await).await;
        assert_eq!(next.due_date, "2090-01-02", "{rrule}");
        let last = ann.complete(&next.id, "").await.expect("a completion");
        assert_eq!((last.state(), &last.next_task_id[..]), (State::Completed, ""), "{rrule}");
        // It stays an occurrence of the series.
        assert_eq!((&last.recurrence, &last.series_id), (&next.recurrence, &next.series_id));
    }
}

async fn occurrences_are_completed_in_batches(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let stored = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let new_id = ann.new_id();
    let task = Some(recurring("2090-01-31", "FREQ=WEEKLY"));
    let create = CreateTaskRequest { task, task_id: new_id.clone(), ..CreateTaskRequest::default() };
    let plain = ann.make("Buy milk").await;
    let writes = [Kind::Create(create), complete(&stored.id), complete(&plain.id), complete(&new_id)];
    let tasks = ann.batch(writes).await.expect("a batch");
    assert_eq!(tasks[2].next_task_id, "");
    let next_ids = [&tasks[1].next_task_id, &tasks[3].next_task_id];
    assert_ne!(next_ids[0], next_ids[1]);
    let mut due_dates = Vec::new();
    for id in next_ids {
        due_dates.push(ann.get(id).await.expect("there is a next occurrence").due_date);
    }
    assert_eq!(due_dates, ["2090-02-01", "2090-02-07"]);
    assert_eq!(ann.list_all(0, true).await.len(), 5);
}

async fn quota_applies_to_the_next_occurrence(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "2"]).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let other = ann.make("Buy milk").await;
    assert_refused!(ann.complete(&task.id, "").await, ResourceExhausted, "QUOTA_EXCEEDED");
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
    ann.delete(&other.id, "").await.expect("a deletion");
    ann.advance(&task).await;
    assert_refused!(ann.create(titled("Buy oats")).await, ResourceExhausted, "QUOTA_EXCEEDED");
}

async fn many_occurrences_of_one_series_keep_their_position(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let rank = task.rank.clone();
    ann.make("Last").await;
    for _ in 0..30 {
        task = ann.advance(&task).await;
        assert_eq!(task.rank, rank);
    }
    let ranks: Vec<_> = ann.tasks_by_rank(false).await.into_iter().map(|task| task.rank).collect();
    assert!(ranks.len() == 32 && ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
}

async fn filter_selects_the_occurrences_of_a_series(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let next = ann.advance(&task).await;
    let other = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let plain = ann.make("Buy milk").await;
    let series_id = &task.series_id;
    for (filter, expected) in [
        (format!("series_id = {series_id}"), vec![&next, &task]),
        (format!("series_id = {series_id} state = OPEN"), vec![&next]),
        (format!("series_id != {series_id}"), vec![&plain, &other]),
        ("series_id:*".to_owned(), vec![&other, &next, &task]),
        ("NOT series_id:*".to_owned(), vec![&plain]),
    ] {
        let request = ListTasksRequest { filter: filter.clone(), ..ListTasksRequest::default() };
        let mut found: Vec<_> =
            ann.list(request).await.expect("a page").tasks.into_iter().map(|task| task.id).collect();
        let mut expected: Vec<_> = expected.into_iter().map(|task| task.id.clone()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    }
}
