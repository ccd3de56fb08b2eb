//! Reminders of recurring tasks.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Recurrence, Reminder, Task, UpdateTaskRequest, update_task_request::Scope};

use super::{Feed, SOON, at, before_due, time, with};
use crate::{
    calls::skip,
    support::{Service, User},
};

on_each_database!(
    reminders_of_one_occurrence_do_not_apply_to_the_following_ones,
    reminders_apply_to_the_following_occurrences_by_default,
    a_skipped_occurrence_loses_its_reminders_at_a_time,
    a_skipped_occurrence_loses_its_snoozes,
);

impl User {
    /// Creates a task that recurs every day, at a time of day without a clock change.
    async fn make_daily(&self, reminders: Vec<Reminder>) -> Task {
        let recurrence = Some(Recurrence { rrule: "FREQ=DAILY".to_owned(), ..Recurrence::default() });
        let due_time = Some(time("2030-05-01T10:00:00Z").into());
        self.create(Task { due_time, recurrence, ..with(reminders) }).await.expect("a task")
    }

    async fn update_fields(&self, task: Task, mask: &[&str], scope: Scope) -> Task {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let task = Some(Task { etag: String::new(), ..task });
        let request = UpdateTaskRequest { task, update_mask, scope: scope.into(), ..UpdateTaskRequest::default() };
        self.client.clone().update_task(request).await.expect("an update").into_inner()
    }

    /// Completes an occurrence, or skips it, and returns the next one.
    async fn next_occurrence(&self, task: &Task, skips: bool) -> Task {
        if skips {
            return self.batch([skip(&task.id)]).await.expect("a skip").remove(0);
        }
        let completed = self.complete(&task.id, "").await.expect("a completion");
        self.get(&completed.next_task_id).await.expect("there is a next occurrence")
    }
}

async fn reminders_of_one_occurrence_do_not_apply_to_the_following_ones(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for skips in [false, true] {
        let absolute = at(time("2030-05-01T09:00:00Z"));
        let task = ann.make_daily(vec![absolute, before_due(900)]).await;
        let relative = task.reminders[1].clone();
        for reminders in [vec![], vec![before_due(60), relative.clone()], vec![before_due(120)]] {
            let only_now = Task { title: "Ask Bob".to_owned(), reminders: reminders.clone(), ..task.clone() };
            let updated = ann.update_fields(only_now, &["title", "reminders"], Scope::This).await;
            assert_eq!((&updated.title[..], updated.reminders.len()), ("Ask Bob", reminders.len()));
        }
        let next = ann.next_occurrence(&task, skips).await;
        assert_eq!((&next.title, &next.reminders), (&task.title, &vec![relative.clone()]), "skips: {skips}");
        assert_eq!(ann.next_occurrence(&next, skips).await.reminders, [relative]);
    }
}

async fn reminders_apply_to_the_following_occurrences_by_default(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (scope, skips) in [(Scope::Unspecified, false), (Scope::Following, true)] {
        let task = ann.make_daily(vec![before_due(900)]).await;
        ann.update_fields(Task { reminders: vec![], ..task.clone() }, &["reminders"], Scope::This).await;
        let lasting = Task { reminders: vec![before_due(60)], ..task };
        let updated = ann.update_fields(lasting, &["reminders"], scope).await;
        assert_eq!(ann.next_occurrence(&updated, skips).await.reminders, updated.reminders);
    }
}

async fn a_skipped_occurrence_loses_its_reminders_at_a_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_daily(vec![at(service.clock.now() + SOON), before_due(900)]).await;
    let next = ann.next_occurrence(&task, true).await;
    assert_eq!(next.reminders, task.reminders[1..]);
    let mut feed = Feed::start(&ann).await;
    service.manual_clock.advance(SOON);
    feed.assert_nothing_fires().await;
}

async fn a_skipped_occurrence_loses_its_snoozes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_daily(vec![before_due(900)]).await;
    let snoozed = ann.snooze(&task, 0, service.clock.now() + SOON).await.expect("snoozed");
    // The due time of the next occurrence is the current one, so that it does not clear the snooze.
    let due_time = Some(time("2030-05-02T10:00:00Z").into());
    let moved = ann.update_fields(Task { due_time, ..snoozed }, &["due_time"], Scope::This).await;
    ann.snooze(&moved, 0, service.clock.now() + SOON).await.expect("snoozed");
    let next = ann.next_occurrence(&task, true).await;
    assert_eq!((next.due_time, &next.reminders), (due_time, &task.reminders));
    let mut feed = Feed::start(&ann).await;
    service.manual_clock.advance(SOON);
    feed.assert_nothing_fires().await;
}
