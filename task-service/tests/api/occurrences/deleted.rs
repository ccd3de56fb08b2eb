//! Tasks whose next occurrence was deleted.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    Recurrence, Task, UpdateTaskRequest,
    batch_write_tasks_request::write::Write as Kind,
    recurrence::{Basis, CatchUp},
    update_task_request::Scope,
};
use tonic::Status;

use super::{rule, stored};
use crate::{
    calls::{delete, stop, under},
    order::FIRST,
    support::{Service, User, titled},
};

on_each_database!(
    recurrence_can_be_stopped_cleared_and_replaced_if_the_next_occurrence_was_deleted,
    recurrence_can_be_stopped_if_the_next_occurrence_was_purged,
    deletion_in_the_same_batch_permits_a_stop,
    no_other_next_occurrence_is_created_instead_of_a_deleted_one,
    restored_next_occurrence_continues_the_series,
    scope_must_not_be_following_after_the_next_occurrence_was_created,
);

/// Longer than the retention of deleted tasks.
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

impl User {
    /// Returns a reopened occurrence, and its next one, which is not deleted.
    async fn make_reopened(&self) -> (Task, Task) {
        let task = self.make_recurring("2090-01-31", "FREQ=DAILY").await;
        let next = self.advance(&task).await;
        (self.reopen(&task.id, "").await.expect("a reopening"), next)
    }

    async fn set_recurrence(&self, id: &str, recurrence: Option<Recurrence>) -> Result<Task, Status> {
        self.update(Task { id: id.to_owned(), recurrence, ..Task::default() }, &["recurrence"]).await
    }

    /// Asserts that a task does not recur, and that it has no next occurrence when it is completed.
    async fn assert_is_single(&self, task: &Task) {
        assert_eq!((&task.recurrence, &task.series_id[..], &task.next_task_id[..]), (&None, "", ""));
        let completed = self.complete(&task.id, "").await.expect("a completion");
        assert_eq!(completed.next_task_id, "");
    }
}

async fn recurrence_can_be_stopped_cleared_and_replaced_if_the_next_occurrence_was_deleted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, next) = ann.make_reopened().await;
    assert_refused!(ann.stop(&task.id).await, FailedPrecondition, "TASK_NOT_RECURRING");
    let refused = ann.set_recurrence(&task.id, None).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    ann.delete(&next.id, "").await.expect("a deletion");
    ann.assert_is_single(&ann.stop(&task.id).await.expect("a stop")).await;

    let (task, next) = ann.make_reopened().await;
    ann.delete(&next.id, "").await.expect("a deletion");
    ann.assert_is_single(&ann.set_recurrence(&task.id, None).await.expect("an update")).await;

    let (task, next) = ann.make_reopened().await;
    ann.delete(&next.id, "").await.expect("a deletion");
    let replaced = ann.set_recurrence(&task.id, Some(rule("FREQ=WEEKLY"))).await.expect("an update");
    assert_eq!(replaced.recurrence, Some(stored("FREQ=WEEKLY", Basis::Due, CatchUp::Skip)));
    assert_ne!(replaced.series_id, task.series_id, "it is another series");
    assert_eq!((&replaced.next_task_id[..], &replaced.occurrence_date[..]), ("", "2090-01-31"));
    assert_eq!(ann.advance(&replaced).await.due_date, "2090-02-07");
}

async fn recurrence_can_be_stopped_if_the_next_occurrence_was_purged(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, next) = ann.make_reopened().await;
    ann.delete(&next.id, "").await.expect("a deletion");
    service.manual_clock.advance(MONTH);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    assert_refused!(ann.get(&next.id).await, NotFound, "TASK_NOT_FOUND");
    ann.assert_is_single(&ann.stop(&task.id).await.expect("a stop")).await;
}

async fn deletion_in_the_same_batch_permits_a_stop(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, next) = ann.make_reopened().await;
    let refused = ann.batch([stop(&task.id)]).await;
    assert_refused!(refused, FailedPrecondition, "TASK_NOT_RECURRING", "writes[0].stop_recurrence.id");
    let stopped = ann.batch([delete(&next.id), stop(&task.id)]).await.expect("a batch");
    ann.assert_is_single(&stopped[1]).await;

    // The next occurrence is deleted together with its parent.
    let (task, next) = ann.make_reopened().await;
    let parent = ann.make("Garden").await;
    ann.move_task(under(&next.id, &parent.id, FIRST)).await.expect("a move");
    let cleared = Task { id: task.id.clone(), ..Task::default() };
    let mask = prost_types::FieldMask { paths: vec!["recurrence".to_owned()] };
    let clear = Kind::Update(UpdateTaskRequest {
        task: Some(cleared),
        update_mask: Some(mask),
        ..UpdateTaskRequest::default()
    });
    let tasks = ann.batch([delete(&parent.id), clear]).await.expect("a batch");
    ann.assert_is_single(&tasks[1]).await;
}

async fn no_other_next_occurrence_is_created_instead_of_a_deleted_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, next) = ann.make_reopened().await;
    ann.delete(&next.id, "").await.expect("a deletion");
    let refused = ann.skip(&task.id).await.expect_err("the next occurrence could be restored");
    assert!(refused.message().contains("the next occurrence was deleted"), "{refused:?}");
    assert_refused!(Err::<Task, _>(refused), FailedPrecondition, "TASK_NOT_RECURRING");
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    assert_eq!(completed.next_task_id, next.id);
    assert_eq!(ann.list_all(0, false).await, [task.id]);
}

async fn restored_next_occurrence_continues_the_series(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, next) = ann.make_reopened().await;
    ann.delete(&next.id, "").await.expect("a deletion");
    let replaced = ann.set_recurrence(&task.id, Some(rule("FREQ=WEEKLY"))).await.expect("an update");
    let restored = ann.undelete(&next.id, "").await.expect("an undeletion");
    assert_eq!((&restored.series_id, &restored.recurrence), (&task.series_id, &task.recurrence));
    assert_eq!(ann.advance(&restored).await.due_date, "2090-02-02");
    assert_eq!(ann.advance(&replaced).await.due_date, "2090-02-07");
    assert_eq!(ann.list_all(0, true).await.len(), 4);
}

async fn scope_must_not_be_following_after_the_next_occurrence_was_created(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let next = ann.advance(&task).await;
    let completed = ann.get(&task.id).await.expect("it exists");
    let renamed = || Task { id: task.id.clone(), ..titled("Water the lawn") };
    let moved = || Task { id: task.id.clone(), due_date: "2090-02-20".to_owned(), ..Task::default() };
    for update in [renamed(), moved()] {
        let refused = ann.update_in(Scope::Following, update).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "scope");
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), completed);
    ann.reopen(&task.id, "").await.expect("a reopening");
    ann.delete(&next.id, "").await.expect("a deletion");
    let refused = ann.update_in(Scope::Following, moved()).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "scope");
    for scope in [Scope::Unspecified, Scope::This] {
        assert_eq!(ann.update_in(scope, renamed()).await.expect("an update").title, "Water the lawn");
    }
}
