//! `ListTaskChanges` and its sync tokens.

use prost::Message;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, DeleteTaskListRequest, ListTasksRequest, MoveTaskRequest, Task,
    TaskListChange,
    batch_write_tasks_request::{Write, write::Write as Kind},
    task_list_service_client::TaskListServiceClient,
};

use crate::{
    follow::LocalCopy,
    support::{Service, User, titled, with_revision},
};

on_each_database!(
    without_a_token_all_tasks_are_returned,
    changes_are_in_the_order_in_which_they_happened,
    pages_of_any_size_contain_every_change_once,
    repeatedly_changed_task_is_returned_once_in_its_current_state,
    changes_between_pages_are_returned_on_later_pages,
    calls_without_effect_are_not_changes,
    batches_moves_and_deletions_of_lists_are_changes,
    forged_or_foreign_sync_token_is_refused,
    a_negative_page_size_of_changes_is_refused,
    page_has_fifty_changes_by_default_and_five_hundred_at_most,
    sync_token_is_valid_at_every_replica_and_after_a_restart,
    page_of_changes_stays_below_the_response_limit,
);

/// Creates tasks sequentially and returns their ids.
async fn make(user: &User, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(user.make("Buy milk").await.id);
    }
    ids
}

fn create(title: &str) -> Write {
    let request = CreateTaskRequest { task: Some(titled(title)), ..CreateTaskRequest::default() };
    Write { write: Some(Kind::Create(request)) }
}

async fn without_a_token_all_tasks_are_returned(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let page = ann.changes("", 0).await.expect("a page");
    let default = ann.get_list(&ann.id.to_string()).await.expect("it exists");
    let expected = TaskListChange { id: default.id.clone(), task_list: Some(default), removed: false };
    assert_eq!((page.changes.len(), page.list_changes, page.has_more), (0, vec![expected], false));
    let task = ann.make("Buy milk").await;
    bob.make("Buy oats").await;
    let returned = ann.changes("", 0).await.expect("a page").changes;
    assert_eq!(returned.len(), 1);
    assert_eq!((&returned[0].id, returned[0].task.as_ref(), returned[0].removed), (&task.id, Some(&task), false));
    // The token of an empty page works as well.
    assert_eq!(ann.changed_ids(&page.next_sync_token).await.0, [task.id]);
}

async fn changes_are_in_the_order_in_which_they_happened(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 4).await;
    let token = ann.current_sync_token().await;
    ann.delete(&ids[2], "").await.expect("a deletion");
    ann.complete(&ids[0], "").await.expect("a completion");
    ann.update(Task { id: ids[3].clone(), ..titled("Buy oats") }, &["title"]).await.expect("an update");
    assert_eq!(ann.changed_ids(&token).await.0, [&*ids[2], &ids[0], &ids[3]]);
    ann.undelete(&ids[2], "").await.expect("an undeletion");
    ann.reopen(&ids[0], "").await.expect("it is open again");
    assert_eq!(ann.changed_ids(&token).await.0, [&*ids[3], &ids[2], &ids[0]]);
    assert_eq!(ann.changed_ids("").await.0, [&*ids[1], &ids[3], &ids[2], &ids[0]]);
}

async fn pages_of_any_size_contain_every_change_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut ids = vec![ann.get_list(&ann.id.to_string()).await.expect("the default list").id];
    ids.extend(make(&ann, 4).await);
    // A page may also end between the changes of one batch.
    let batch = BatchWriteTasksRequest { writes: vec![create("Buy oats"); 5], ..BatchWriteTasksRequest::default() };
    let batch = ann.client.clone().batch_write_tasks(batch).await.expect("a batch").into_inner();
    ids.extend(batch.tasks.into_iter().map(|task| task.id));
    for page_size in [1_i32, 2, 3, 9, 10, 11] {
        let (mut returned, mut token) = (Vec::new(), String::new());
        loop {
            let page = ann.changes(&token, page_size).await.expect("a page");
            assert!(page.changes.len() + page.list_changes.len() <= page_size.unsigned_abs() as usize);
            returned.extend(page.list_changes.into_iter().map(|change| change.id));
            returned.extend(page.changes.into_iter().map(|change| change.id));
            token = page.next_sync_token;
            assert_eq!(page.has_more, returned.len() < ids.len(), "{page_size}: {}", returned.len());
            if !page.has_more {
                break;
            }
        }
        assert_eq!(returned, ids);
        assert_eq!(ann.changed_ids(&token).await.0, [""; 0]);
    }
}

async fn repeatedly_changed_task_is_returned_once_in_its_current_state(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 2).await;
    let token = ann.current_sync_token().await;
    ann.complete(&ids[0], "").await.expect("a completion");
    ann.update(Task { id: ids[0].clone(), ..titled("Buy oats") }, &["title"]).await.expect("an update");
    let deleted = ann.delete(&ids[0], "").await.expect("a deletion");
    assert!(deleted.delete_time.is_some());
    let page = ann.changes(&token, 0).await.expect("a page");
    let returned: Vec<_> = page.changes.into_iter().map(|change| (change.id, change.task, change.removed)).collect();
    assert_eq!(returned, [(deleted.id.clone(), Some(deleted), false)]);
}

async fn changes_between_pages_are_returned_on_later_pages(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 12).await;
    let mut copy = LocalCopy::default();
    for index in 0..6 {
        let page = ann.changes(&copy.token, 2).await.expect("a page");
        copy.apply_page(page);
        // Change a task that was already returned, delete one that was not, and create one.
        ann.complete(&ids[index], "").await.expect("a completion");
        ann.delete(&ids[11 - index], "").await.expect("a deletion");
        ann.make("Buy oats").await;
    }
    copy.pull(&ann, 2).await.expect("the rest");
    assert_eq!(copy.tasks, ann.all_tasks().await);
}

async fn calls_without_effect_are_not_changes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let token = ann.current_sync_token().await;
    ann.reopen(&task.id, "").await.expect("it is open");
    ann.undelete(&task.id, "").await.expect("it is not deleted");
    ann.update(Task { id: task.id.clone(), ..Task::default() }, &[]).await.expect("nothing is set");
    ann.complete(&task.id, &with_revision(&task.etag, 9)).await.expect_err("another etag");
    let dry_run = CreateTaskRequest { task: Some(titled("a")), validate_only: true, ..CreateTaskRequest::default() };
    ann.client.clone().create_task(dry_run).await.expect("the request is valid");
    assert_eq!(ann.changed_ids(&token).await.0, [""; 0]);
}

async fn batches_moves_and_deletions_of_lists_are_changes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut lists = TaskListServiceClient::new(service.channel.clone());
    let list_id = ann.make_list("Shopping").await.id;
    let mut copy = LocalCopy::default();

    let parent = ann.make("Cook").await;
    let subtask =
        ann.create(Task { parent_id: parent.id.clone(), ..titled("Buy milk") }).await.expect("the subtask is created");
    let batch = BatchWriteTasksRequest { writes: vec![create("a"), create("b")], ..BatchWriteTasksRequest::default() };
    ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    copy.pull(&ann, 0).await.expect("changes");
    assert_eq!(copy.tasks.len(), 4);

    let request = MoveTaskRequest { id: parent.id.clone(), list_id: list_id.clone(), ..MoveTaskRequest::default() };
    ann.client.clone().move_task(request).await.expect("a move");
    copy.pull(&ann, 0).await.expect("changes");
    assert_eq!(copy.tasks[&subtask.id].list_id, list_id, "the subtask moves with it");
    assert_eq!(copy.tasks, ann.all_tasks().await);

    let request = DeleteTaskListRequest { id: list_id, ..DeleteTaskListRequest::default() };
    lists.delete_task_list(ann.authenticated(request)).await.expect("a deletion");
    copy.pull(&ann, 0).await.expect("changes");
    assert!(copy.tasks[&parent.id].delete_time.is_some() && copy.tasks[&subtask.id].delete_time.is_some());
    assert_eq!(copy.tasks, ann.all_tasks().await);
}

async fn forged_or_foreign_sync_token_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    make(&ann, 3).await;
    let valid = ann.changes("", 3).await.expect("a page").next_sync_token;
    let query = ListTasksRequest { page_size: 2, ..ListTasksRequest::default() };
    let page_token = ann.list(query.clone()).await.expect("a page").next_page_token;
    let mut wrong: Vec<String> = (0..valid.len())
        .map(|index| {
            let mut bytes = valid.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect();
    wrong.extend(["1", "\0", "🥛", "====", " "].map(str::to_owned));
    wrong.extend([
        valid[1..].to_owned(),
        format!("{valid}A"),
        format!("{valid}="),
        "A".repeat(valid.len()),
        page_token,
    ]);
    wrong.extend([bob.current_sync_token().await, "A".repeat(100_000)]);
    for wrong in &wrong {
        assert_refused!(ann.changes(wrong, 0).await, InvalidArgument, "SYNC_TOKEN_INVALID", "sync_token");
        assert_refused!(ann.watch(wrong).await, InvalidArgument, "SYNC_TOKEN_INVALID", "sync_token");
    }
    let as_page = ListTasksRequest { page_token: valid.clone(), ..query };
    assert_refused!(ann.list(as_page).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    assert_eq!(ann.changed_ids(&valid).await.0.len(), 1, "the unchanged token is valid");
}

async fn a_negative_page_size_of_changes_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    for page_size in [-1, i32::MIN] {
        let outcome = service.user().changes("", page_size).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "page_size");
    }
}

async fn page_has_fifty_changes_by_default_and_five_hundred_at_most(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for count in [100, 100, 100, 100, 100] {
        let writes = vec![create("Buy milk"); count];
        let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    }
    for (page_size, expected) in [(0, 50), (499, 499), (500, 500), (501, 500), (i32::MAX, 500)] {
        let page = ann.changes("", page_size).await.expect("a page");
        assert_eq!((page.changes.len() + page.list_changes.len(), page.has_more), (expected, true));
    }
}

async fn sync_token_is_valid_at_every_replica_and_after_a_restart(database: TestDatabase) {
    let service = Service::start(&database).await;
    let replica = service.start_replica(&database, &[]).await;
    let ann = service.user();
    make(&ann, 3).await;
    let token = ann.changes("", 3).await.expect("a page").next_sync_token;
    let expected = ann.changes(&token, 0).await.expect("a page");
    assert_eq!(ann.connected_to(&replica).changes(&token, 0).await.expect("a page"), expected);
    replica.stop().await;
    let service = service.restart(&database).await;
    assert_eq!(ann.connected_to(&service).changes(&token, 0).await.expect("a page"), expected);
}

async fn page_of_changes_stays_below_the_response_limit(database: TestDatabase) {
    const MAX_BYTES: usize = 40_000;
    let service = Service::start_with(&database, &["--max-response-bytes", &MAX_BYTES.to_string()]).await;
    let ann = service.user();
    for chars in [10, 4000, 4000, 4000, 0, 0, 3000, 4000, 1] {
        ann.create(Task { notes: "🥛".repeat(chars), ..titled("Buy milk") }).await.expect("the task is created");
    }
    let page = ann.changes("", 500).await.expect("a page");
    assert!(page.has_more && (28_000..=MAX_BYTES).contains(&page.encoded_len()), "{}", page.encoded_len());
    let (mut copy, mut watched_copy) = (LocalCopy::default(), LocalCopy::default());
    copy.pull(&ann, 500).await.expect("all of it");
    assert_eq!(copy.tasks, ann.all_tasks().await);
    let mut watch = ann.watch("").await.expect("a watch");
    watched_copy.receive_until(&mut watch, &copy.tasks).await;
}
