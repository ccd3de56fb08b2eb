//! Invalid requests.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Reminder, SnoozeReminderRequest, reminder::Time};

use super::{SOON, at, before_due, with};
use crate::support::Service;

on_each_database!(
    invalid_reminders_are_refused,
    bounds_of_reminders_are_accepted,
    reminders_of_other_tasks_and_users_do_not_exist,
    a_repeated_snooze_is_replayed,
);

async fn invalid_reminders_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let now = service.clock.now();
    let fraction = Time::BeforeDue(prost_types::Duration { seconds: 1, nanos: 1 });
    let nanoseconds = Time::RemindTime(prost_types::Timestamp { seconds: 0, nanos: 1 });
    let same = Reminder { id: ann.new_id(), ..at(now) };
    for (reminders, field) in [
        (vec![at(now); 6], "task.reminders"),
        (vec![at(now), Reminder::default()], "task.reminders[1]"),
        (vec![Reminder { id: "1".to_owned(), ..at(now) }], "task.reminders[0].id"),
        (vec![same.clone(), same], "task.reminders[1].id"),
        (vec![Reminder { time: Some(fraction), ..Reminder::default() }], "task.reminders[0].before_due"),
        (vec![before_due(-86_400)], "task.reminders[0].before_due"),
        (vec![before_due(366 * 86_400 + 1)], "task.reminders[0].before_due"),
        (vec![before_due(i64::MIN)], "task.reminders[0].before_due"),
        (vec![Reminder { time: Some(nanoseconds), ..Reminder::default() }], "task.reminders[0].remind_time"),
    ] {
        assert_refused!(ann.create(with(reminders)).await, InvalidArgument, "VALIDATION_FAILED", field);
    }
}

async fn bounds_of_reminders_are_accepted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let first = Reminder {
        time: Some(Time::RemindTime(prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 })),
        ..Reminder::default()
    };
    let last = Reminder {
        time: Some(Time::RemindTime(prost_types::Timestamp { seconds: 253_402_300_799, nanos: 999_999_000 })),
        ..Reminder::default()
    };
    let mut task = with(vec![first, last, before_due(-86_399), before_due(366 * 86_400), before_due(0)]);
    for due_date in ["0001-01-01", "9999-12-31"] {
        task.due_date = due_date.to_owned();
        let created = ann.create(task.clone()).await.expect(due_date);
        let times = |task: &taskey_proto::task::v1::Task| -> Vec<_> {
            task.reminders.iter().map(|reminder| reminder.time).collect()
        };
        assert_eq!(times(&created), times(&task));
    }
}

async fn reminders_of_other_tasks_and_users_do_not_exist(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, eve) = (service.user(), service.user());
    let time = service.clock.now() + SOON;
    let (task, other) = (ann.create(with(vec![at(time)])).await, ann.create(with(vec![at(time)])).await);
    let (task, other) = (task.expect("a task"), other.expect("a task"));
    let mut mixed = task.clone();
    mixed.reminders.clone_from(&other.reminders);
    assert_refused!(ann.snooze(&mixed, 0, time).await, NotFound, "REMINDER_NOT_FOUND");
    assert_refused!(ann.acknowledge(&mixed, 0).await, NotFound, "REMINDER_NOT_FOUND");
    assert_refused!(eve.snooze(&task, 0, time).await, NotFound, "TASK_NOT_FOUND");
    ann.delete(&task.id, "").await.expect("deleted");
    assert_refused!(ann.snooze(&task, 0, time).await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.acknowledge(&task, 0).await, NotFound, "TASK_NOT_FOUND");
}

async fn a_repeated_snooze_is_replayed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(with(vec![at(service.clock.now() + SOON)])).await.expect("a task");
    let request = SnoozeReminderRequest {
        task_id: task.id.clone(),
        reminder_id: task.reminders[0].id.clone(),
        remind_time: Some((service.clock.now() + 2 * SOON).into()),
        etag: task.etag.clone(),
        request_id: ann.new_id(),
        validate_only: false,
    };
    let snoozed = ann.client.clone().snooze_reminder(request.clone()).await.expect("snoozed").into_inner();
    let repeated = ann.client.clone().snooze_reminder(request.clone()).await.expect("replayed");
    assert!(repeated.metadata().contains_key("idempotent-replayed"));
    assert_eq!(repeated.into_inner(), snoozed);
    let stale = SnoozeReminderRequest { request_id: String::new(), ..request };
    assert_refused!(ann.client.clone().snooze_reminder(stale).await, Aborted, "ETAG_MISMATCH");
}
