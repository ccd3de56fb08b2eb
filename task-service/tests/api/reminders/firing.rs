//! When reminders fire, and what callers see then.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::DeleteTaskRequest;

use super::{Feed, SOON, at, with};
use crate::support::{Service, titled};

on_each_database!(
    a_reminder_fires_once_and_is_one_change_of_its_task,
    a_firing_changes_the_etag_and_has_no_entry_in_the_history,
    a_reminder_whose_time_has_passed_fires_at_once,
    a_reminder_that_fell_due_while_the_server_was_stopped_fires_once_and_is_late,
    completed_and_deleted_tasks_do_not_fire_until_they_are_reopened_or_undeleted,
    reminders_of_deleted_subtasks_fire_after_their_parent_is_undeleted,
    a_snoozed_reminder_fires_again,
    only_a_reminder_that_has_fired_can_be_acknowledged,
);

async fn a_reminder_fires_once_and_is_one_change_of_its_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let now = service.clock.now();
    let created = ann.create(with(vec![at(now + SOON), at(now + 2 * SOON)])).await.expect("a task");
    let mut feed = Feed::start(&ann).await;
    service.manual_clock.advance(SOON);
    let fired = feed.next_task().await;
    assert_eq!(fired.id, created.id);
    assert_eq!(fired.reminders[0].fire_time, Some((now + SOON).into()));
    assert!(!fired.reminders[0].late);
    assert_eq!(fired.reminders[1], created.reminders[1]);
    feed.assert_nothing_fires().await;
    service.manual_clock.advance(SOON);
    let fired = feed.next_task().await;
    assert!(fired.reminders.iter().all(|reminder| reminder.fire_time.is_some()), "{fired:?}");
    assert_eq!(ann.get(&created.id).await.expect("a task"), fired);
}

async fn a_firing_changes_the_etag_and_has_no_entry_in_the_history(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.create(with(vec![at(service.clock.now() + SOON)])).await.expect("a task");
    service.manual_clock.advance(SOON);
    let fired = ann.task_after_firings(&created.id, 1).await;
    assert_refused!(ann.complete(&created.id, &created.etag).await, Aborted, "ETAG_MISMATCH");
    assert!(fired.update_time.map(|time| time.seconds) > created.update_time.map(|time| time.seconds));
    assert_eq!(ann.history(&created.id).await.len(), 1, "only the creation");
    ann.complete(&created.id, &fired.etag).await.expect("the etag is current");
}

async fn a_reminder_whose_time_has_passed_fires_at_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let hour_ago = service.clock.now() - Duration::from_secs(3600);
    let created = ann.create(with(vec![at(hour_ago)])).await.expect("a task");
    let fired = ann.task_after_firings(&created.id, 1).await;
    assert!(fired.reminders[0].late);
}

async fn a_reminder_that_fell_due_while_the_server_was_stopped_fires_once_and_is_late(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let now = service.clock.now();
    let reminders = vec![at(now + SOON), at(now + Duration::from_secs(2 * 3600))];
    let created = ann.create(with(reminders)).await.expect("a task");
    let token = ann.current_sync_token().await;
    let (clock, downtime) = (service.clock.clone(), Duration::from_secs(2 * 3600));
    let service = service.restart_after(&database, downtime).await;
    let ann = ann.connected_to(&service);
    let fired = ann.task_after_firings(&created.id, 2).await;
    let late: Vec<_> = fired.reminders.iter().map(|reminder| reminder.late).collect();
    assert_eq!(late, [true, false]);
    assert_eq!(fired.reminders[0].fire_time, Some(clock.now().into()));
    assert_eq!(ann.changed_ids(&token).await.0, [created.id], "one change");
}

async fn completed_and_deleted_tasks_do_not_fire_until_they_are_reopened_or_undeleted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let time = service.clock.now() + SOON;
    let completed = ann.create(with(vec![at(time)])).await.expect("a task");
    let deleted = ann.create(with(vec![at(time)])).await.expect("a task");
    ann.complete(&completed.id, "").await.expect("completed");
    ann.delete(&deleted.id, "").await.expect("deleted");
    let mut feed = Feed::start(&ann).await;
    service.manual_clock.advance(2 * SOON);
    feed.assert_nothing_fires().await;
    ann.reopen(&completed.id, "").await.expect("reopened");
    ann.undelete(&deleted.id, "").await.expect("undeleted");
    for id in [&completed.id, &deleted.id] {
        assert!(!ann.task_after_firings(id, 1).await.reminders[0].late, "30 seconds are not late");
    }
}

async fn reminders_of_deleted_subtasks_fire_after_their_parent_is_undeleted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let parent = ann.create(titled("Shop")).await.expect("a task");
    let mut child = with(vec![at(service.clock.now() + SOON)]);
    child.parent_id.clone_from(&parent.id);
    let child = ann.create(child).await.expect("a subtask");
    ann.delete_with(DeleteTaskRequest { id: parent.id.clone(), ..DeleteTaskRequest::default() })
        .await
        .expect("deleted");
    let mut feed = Feed::start(&ann).await;
    service.manual_clock.advance(SOON);
    feed.assert_nothing_fires().await;
    ann.undelete(&parent.id, "").await.expect("undeleted");
    ann.task_after_firings(&child.id, 1).await;
}

async fn a_snoozed_reminder_fires_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.create(with(vec![at(service.clock.now())])).await.expect("a task");
    let fired = ann.task_after_firings(&created.id, 1).await;
    let time = service.clock.now() + SOON;
    let snoozed = ann.snooze(&fired, 0, time).await.expect("snoozed");
    let reminder = &snoozed.reminders[0];
    assert_eq!((reminder.snooze_time, reminder.fire_time), (Some(time.into()), None));
    assert_eq!(reminder.time, created.reminders[0].time);
    service.manual_clock.advance(SOON);
    let again = ann.task_after_firings(&created.id, 1).await;
    assert_eq!((again.reminders[0].fire_time, again.reminders[0].snooze_time), (Some(time.into()), None));
    let past = ann.snooze(&again, 0, service.clock.now()).await;
    let message = past.as_ref().expect_err("the call was not refused").message();
    assert_eq!(message, "remind_time: must be in the future");
    assert_refused!(past, InvalidArgument, "VALIDATION_FAILED", "remind_time");
}

async fn only_a_reminder_that_has_fired_can_be_acknowledged(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.create(with(vec![at(service.clock.now() + SOON)])).await.expect("a task");
    assert_refused!(ann.acknowledge(&created, 0).await, FailedPrecondition, "REMINDER_NOT_FIRED");
    service.manual_clock.advance(SOON);
    let fired = ann.task_after_firings(&created.id, 1).await;
    let acknowledged = ann.acknowledge(&fired, 0).await.expect("acknowledged");
    assert_eq!(acknowledged.reminders[0].acknowledge_time, Some(service.clock.now().into()));
    service.manual_clock.advance(SOON);
    assert_eq!(ann.acknowledge(&fired, 0).await.expect("acknowledged"), acknowledged, "nothing changes");
    let snoozed = ann.snooze(&fired, 0, service.clock.now() + SOON).await.expect("snoozed");
    assert_eq!(snoozed.reminders[0].acknowledge_time, None);
    assert_refused!(ann.acknowledge(&snoozed, 0).await, FailedPrecondition, "REMINDER_NOT_FIRED");
}
