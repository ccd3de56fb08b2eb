//! `CompleteTask` and `ReopenTask`.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, task::State};

use crate::support::{Service, with_revision};

on_each_database!(
    task_is_completed_and_reopened,
    completing_a_completed_task_changes_nothing,
    reopening_an_open_task_changes_nothing,
    etag_is_checked_even_if_nothing_would_change,
    deleted_or_missing_task_cannot_change_its_state,
    deletion_keeps_the_state,
);

const MINUTE: Duration = Duration::from_secs(60);

async fn task_is_completed_and_reopened(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    service.manual_clock.advance(MINUTE);
    let completed = ann.complete(&task.id, &task.etag).await.expect("a completion");
    let now = Some(service.clock.now().into());
    let expected = Task {
        state: State::Completed.into(),
        update_time: now,
        complete_time: now,
        etag: with_revision(&task.etag, 2),
        ..task.clone()
    };
    assert_eq!(completed, expected);
    assert_eq!(ann.get(&task.id).await.expect("it exists"), expected);

    service.manual_clock.advance(MINUTE);
    let reopened = ann.reopen(&task.id, &completed.etag).await.expect("a reopening");
    assert_eq!(
        reopened,
        Task { update_time: Some(service.clock.now().into()), etag: with_revision(&task.etag, 3), ..task }
    );
}

async fn completing_a_completed_task_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    service.manual_clock.advance(MINUTE);
    assert_eq!(ann.complete(&task.id, "").await.expect("nothing to do"), completed);
    assert_eq!(ann.complete(&task.id, &completed.etag).await.expect("nothing to do"), completed);
}

async fn reopening_an_open_task_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    service.manual_clock.advance(MINUTE);
    assert_eq!(ann.reopen(&task.id, "").await.expect("nothing to do"), task);
    assert_eq!(ann.reopen(&task.id, &task.etag).await.expect("nothing to do"), task);
}

async fn etag_is_checked_even_if_nothing_would_change(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    assert_refused!(ann.reopen(&task.id, &with_revision(&task.etag, 2)).await, Aborted, "ETAG_MISMATCH");
    assert_refused!(ann.complete(&task.id, &with_revision(&task.etag, 2)).await, Aborted, "ETAG_MISMATCH");
    ann.complete(&task.id, "").await.expect("a completion");
    assert_refused!(ann.complete(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
    assert_refused!(ann.reopen(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
}

async fn deleted_or_missing_task_cannot_change_its_state(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for id in [&task.id, &missing] {
        for etag in ["", &deleted.etag, &with_revision(&deleted.etag, 9)] {
            assert_refused!(ann.complete(id, etag).await, NotFound, "TASK_NOT_FOUND");
            assert_refused!(ann.reopen(id, etag).await, NotFound, "TASK_NOT_FOUND");
        }
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), deleted);
}

async fn deletion_keeps_the_state(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    ann.delete(&task.id, "").await.expect("a deletion");
    let undeleted = ann.undelete(&task.id, "").await.expect("an undeletion");
    let (update_time, etag) = (undeleted.update_time, with_revision(&completed.etag, 4));
    assert_eq!(undeleted, Task { update_time, etag, ..completed });
}
