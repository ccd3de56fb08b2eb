//! Reminders before the due date.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, Recurrence, Task, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
};

use super::{Feed, SOON, at, before_due, set_clock, time, with};
use crate::support::Service;

on_each_database!(
    reminders_are_relative_to_the_due_time_or_the_start_of_the_due_date,
    a_reminder_in_a_skipped_hour_fires_after_the_gap,
    a_moved_due_date_moves_the_reminder,
    a_reminder_fires_again_after_the_due_date_moved_to_the_future,
    a_task_without_a_due_date_does_not_fire,
    the_next_occurrence_has_the_relative_reminders,
);

/// Returns the update of a due date.
fn due_on(task: &Task, due_date: &str) -> Task {
    Task { id: task.id.clone(), due_date: due_date.to_owned(), ..Task::default() }
}

async fn reminders_are_relative_to_the_due_time_or_the_start_of_the_due_date(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // Nine o'clock on the day in Tokyo is midnight in UTC.
    let (due_date, time_zone) = ("2030-05-01".to_owned(), "Asia/Tokyo".to_owned());
    let dated = Task { due_date, time_zone, ..with(vec![before_due(-9 * 3600)]) };
    let due_time = Some(time("2030-05-01T00:30:00Z").into());
    let timed = Task { due_time, ..with(vec![before_due(15 * 60)]) };
    let (dated, timed) = (ann.create(dated).await.expect("a task"), ann.create(timed).await.expect("a task"));
    let mut feed = Feed::start(&ann).await;
    for (task, expected) in [(dated, "2030-05-01T00:00:00Z"), (timed, "2030-05-01T00:15:00Z")] {
        set_clock(&service, time(expected) - SOON);
        feed.assert_nothing_fires().await;
        set_clock(&service, time(expected));
        let fired = feed.next_task().await;
        assert_eq!((fired.id, fired.reminders[0].fire_time), (task.id, Some(time(expected).into())));
    }
}

async fn a_reminder_in_a_skipped_hour_fires_after_the_gap(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // Berlin skips 02:00 to 03:00 on 31 March 2030. Half past two becomes half past three.
    let (due_date, time_zone) = ("2030-04-01".to_owned(), "Europe/Berlin".to_owned());
    let task = Task { due_date, time_zone, ..with(vec![before_due(21 * 3600 + 1800)]) };
    let task = ann.create(task).await.expect("a task");
    let mut feed = Feed::start(&ann).await;
    set_clock(&service, time("2030-03-31T01:29:59Z"));
    feed.assert_nothing_fires().await;
    set_clock(&service, time("2030-03-31T01:30:00Z"));
    assert_eq!(feed.next_task().await.id, task.id);
}

async fn a_moved_due_date_moves_the_reminder(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = || Task { due_date: "2030-05-01".to_owned(), ..with(vec![before_due(0)]) };
    let (first, second) = (ann.create(task()).await.expect("a task"), ann.create(task()).await.expect("a task"));
    ann.update(due_on(&first, "2030-05-03"), &["due_date"]).await.expect("updated");
    let update = UpdateTaskRequest { task: Some(due_on(&second, "2030-05-02")), ..UpdateTaskRequest::default() };
    let writes = vec![Write { write: Some(Kind::Update(update)) }];
    let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    let mut feed = Feed::start(&ann).await;
    set_clock(&service, time("2030-05-01T12:00:00Z"));
    feed.assert_nothing_fires().await;
    for (day, task) in [("2030-05-02T00:00:00Z", second), ("2030-05-03T00:00:00Z", first)] {
        set_clock(&service, time(day));
        assert_eq!(feed.next_task().await.id, task.id, "{day}");
    }
}

async fn a_reminder_fires_again_after_the_due_date_moved_to_the_future(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = Task { due_date: "2030-05-01".to_owned(), ..with(vec![before_due(0)]) };
    let task = ann.create(task).await.expect("a task");
    set_clock(&service, time("2030-05-01T00:00:00Z"));
    let fired = ann.task_after_firings(&task.id, 1).await;
    let kept = ann.update(due_on(&task, "2030-04-30"), &["due_date"]).await.expect("updated");
    assert_eq!(kept.reminders, fired.reminders, "it does not fire again for an earlier day");
    let moved = ann.update(due_on(&task, "2030-05-02"), &["due_date"]).await.expect("updated");
    assert_eq!(moved.reminders, task.reminders);
    set_clock(&service, time("2030-05-02T00:00:00Z"));
    let again = ann.task_after_firings(&task.id, 1).await;
    assert_eq!(again.reminders[0].fire_time, Some(time("2030-05-02T00:00:00Z").into()));
}

async fn a_task_without_a_due_date_does_not_fire(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = Task { due_date: "2030-05-01".to_owned(), ..with(vec![before_due(0)]) };
    let task = ann.create(task).await.expect("a task");
    ann.update(due_on(&task, ""), &["due_date"]).await.expect("updated");
    let mut feed = Feed::start(&ann).await;
    set_clock(&service, time("2030-05-02T00:00:00Z"));
    feed.assert_nothing_fires().await;
    let dated = ann.update(due_on(&task, "2030-05-03"), &["due_date"]).await.expect("updated");
    assert_eq!(dated.reminders, task.reminders);
    set_clock(&service, time("2030-05-03T00:00:00Z"));
    ann.task_after_firings(&task.id, 1).await;
}

async fn the_next_occurrence_has_the_relative_reminders(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let recurrence = Some(Recurrence { rrule: "FREQ=DAILY".to_owned(), ..Recurrence::default() });
    let reminders = vec![before_due(0), at(time("2030-05-01T09:00:00Z"))];
    let task = Task { due_date: "2030-05-01".to_owned(), recurrence, ..with(reminders) };
    let task = ann.create(task).await.expect("a task");
    set_clock(&service, time("2030-05-01T00:00:00Z"));
    ann.task_after_firings(&task.id, 1).await;
    let completed = ann.complete(&task.id, "").await.expect("completed");
    let next = ann.get(&completed.next_task_id).await.expect("the next occurrence");
    assert_eq!(next.reminders, task.reminders[..1], "not fired, and without the absolute one");
    set_clock(&service, time("2030-05-02T00:00:00Z"));
    ann.task_after_firings(&next.id, 1).await;
}
