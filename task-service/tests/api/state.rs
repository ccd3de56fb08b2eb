//! `CompleteTask` and `ReopenTask`.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{CompleteTaskRequest, Task, task::State};
use tonic::Status;

use crate::{
    calls::create,
    follow::LocalCopy,
    support::{Service, User, titled, with_revision},
};

on_each_database!(
    task_is_completed_and_reopened,
    completing_a_completed_task_changes_nothing,
    reopening_an_open_task_changes_nothing,
    etag_is_checked_even_if_nothing_would_change,
    deleted_or_missing_task_cannot_change_its_state,
    deletion_keeps_the_state,
    open_subtasks_are_completed_with_their_parent,
    subtasks_of_a_completed_task_are_completed,
    subtasks_stay_open_unless_they_are_included,
    completion_of_many_subtasks_is_one_change_of_each,
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

async fn complete_all(user: &User, task: &Task, etag: &str) -> Result<Task, Status> {
    let (id, etag, include_subtasks) = (task.id.clone(), etag.to_owned(), true);
    let request = CompleteTaskRequest { id, etag, include_subtasks, ..CompleteTaskRequest::default() };
    Ok(user.client.clone().complete_task(request).await?.into_inner())
}

async fn open_subtasks_are_completed_with_their_parent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let parent = ann.make("Move house").await;
    let child = ann.make_subtask(&parent, "Pack").await;
    let [open, completed, deleted] = [
        ann.make_subtask(&child, "Books").await,
        ann.make_subtask(&child, "Plates").await,
        ann.make_subtask(&child, "Lamps").await,
    ];
    let other = ann.make("Buy milk").await;
    let completed = ann.complete(&completed.id, "").await.expect("a completion");
    let deleted = ann.delete(&deleted.id, "").await.expect("a deletion");
    service.manual_clock.advance(MINUTE);
    let token = ann.current_sync_token().await;
    assert_refused!(complete_all(&ann, &parent, "\"x\"").await, Aborted, "ETAG_MISMATCH");

    let outcome = complete_all(&ann, &parent, &parent.etag).await.expect("a completion");

    let now = Some(service.clock.now().into());
    for task in [&parent, &child, &open] {
        let (state, etag) = (State::Completed.into(), with_revision(&task.etag, 2));
        let expected = Task { state, complete_time: now, update_time: now, etag, ..task.clone() };
        assert_eq!(ann.get(&task.id).await.expect("it exists"), expected);
    }
    assert_eq!(outcome, ann.get(&parent.id).await.expect("it exists"));
    for task in [completed, deleted, other] {
        assert_eq!(ann.get(&task.id).await.expect("it exists"), task, "it does not change");
    }
    let mut changed = ann.changed_ids(&token).await.0;
    changed.sort_unstable();
    assert_eq!(changed, [parent.id, child.id, open.id]);
}

async fn subtasks_of_a_completed_task_are_completed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let parent = ann.make("Move house").await;
    let child = ann.make_subtask(&parent, "Pack").await;
    let completed = ann.complete(&parent.id, "").await.expect("a completion");
    service.manual_clock.advance(MINUTE);
    assert_eq!(complete_all(&ann, &parent, "").await.expect("a completion"), completed);
    let child = ann.get(&child.id).await.expect("it exists");
    assert_eq!(child.complete_time, Some(service.clock.now().into()));
    let token = ann.current_sync_token().await;
    complete_all(&ann, &parent, "").await.expect("nothing to do");
    assert_eq!(ann.changed_ids(&token).await.0, [""; 0]);
}

async fn subtasks_stay_open_unless_they_are_included(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let parent = ann.make("Move house").await;
    let child = ann.make_subtask(&parent, "Pack").await;
    ann.complete(&parent.id, "").await.expect("a completion");
    assert_eq!(ann.get(&child.id).await.expect("it exists"), child);
    complete_all(&ann, &parent, "").await.expect("a completion");
    ann.reopen(&parent.id, "").await.expect("it is open again");
    assert_eq!(ann.get(&child.id).await.expect("it exists").state(), State::Completed, "reopening has no effect on it");
}

async fn completion_of_many_subtasks_is_one_change_of_each(database: TestDatabase) {
    const SUBTASKS: usize = 1500;
    let service = Service::start(&database).await;
    let ann = service.user();
    let parent = ann.make("Move house").await;
    for _ in 0..SUBTASKS / 100 {
        let subtask = || create(Task { parent_id: parent.id.clone(), ..titled("Pack") });
        ann.batch((0..100).map(|_| subtask())).await.expect("a batch");
    }
    let token = ann.current_sync_token().await;
    complete_all(&ann, &parent, "").await.expect("a completion");
    let mut copy = LocalCopy { token, ..LocalCopy::default() };
    copy.pull(&ann, 500).await.expect("changes");
    assert_eq!(copy.tasks.len(), SUBTASKS + 1);
    assert!(copy.tasks.values().all(|task| task.state() == State::Completed && task.etag.ends_with(".2\"")));
}
