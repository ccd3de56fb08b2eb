//! `ListTaskChanges`: what it tells, and its tokens.

use prost::Message;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, DeleteTaskListRequest, ListTasksRequest, MoveTaskRequest, Task,
    batch_write_tasks_request::{Write, write::Write as Kind},
    task_list_service_client::TaskListServiceClient,
};

use crate::{
    follow::Known,
    support::{Service, User, titled},
};

on_each_database!(
    without_a_token_all_tasks_are_told,
    changes_come_in_the_order_in_which_they_happened,
    pages_of_any_size_tell_every_change_once,
    a_task_that_changed_twice_comes_once_as_it_is_now,
    what_changes_between_pages_is_told_at_the_end,
    what_changes_nothing_is_no_change,
    batches_moves_and_deletions_of_lists_are_changes,
    a_token_that_was_not_issued_to_the_caller_is_refused,
    a_negative_page_size_of_changes_is_refused,
    a_page_of_changes_has_fifty_by_default_and_five_hundred_at_most,
    a_sync_token_is_good_at_every_replica_and_after_a_restart,
    an_answer_ends_before_it_gets_too_large,
);

/// Makes tasks one after the other, and answers their ids.
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

async fn without_a_token_all_tasks_are_told(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let page = ann.changes("", 0).await.expect("a page");
    assert_eq!((page.changes.len(), page.has_more), (0, false));
    let task = ann.make("Buy milk").await;
    bob.make("Buy oats").await;
    let told = ann.changes("", 0).await.expect("a page").changes;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].id, told[0].task.as_ref(), told[0].removed), (&task.id, Some(&task), false));
    // Who asked before there was anything learns of it, too.
    assert_eq!(ann.changed(&page.next_sync_token).await.0, [task.id]);
}

async fn changes_come_in_the_order_in_which_they_happened(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 4).await;
    let token = ann.caught_up().await;
    ann.delete(&ids[2], "").await.expect("a deletion");
    ann.complete(&ids[0], "").await.expect("a completion");
    ann.update(Task { id: ids[3].clone(), ..titled("Buy oats") }, &["title"]).await.expect("an update");
    assert_eq!(ann.changed(&token).await.0, [&*ids[2], &ids[0], &ids[3]]);
    ann.undelete(&ids[2], "").await.expect("an undeletion");
    ann.reopen(&ids[0], "").await.expect("it is open again");
    assert_eq!(ann.changed(&token).await.0, [&*ids[3], &ids[2], &ids[0]]);
    assert_eq!(ann.changed("").await.0, [&*ids[1], &ids[3], &ids[2], &ids[0]]);
}

async fn pages_of_any_size_tell_every_change_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut ids = make(&ann, 4).await;
    // Changes of one act, within which a page may end as well.
    let batch = BatchWriteTasksRequest { writes: vec![create("Buy oats"); 5], ..BatchWriteTasksRequest::default() };
    let made = ann.client.clone().batch_write_tasks(batch).await.expect("a batch").into_inner();
    ids.extend(made.tasks.into_iter().map(|task| task.id));
    for page_size in [1, 2, 3, 8, 9, 10] {
        let (mut told, mut token) = (Vec::new(), String::new());
        loop {
            let page = ann.changes(&token, page_size).await.expect("a page");
            told.extend(page.changes.into_iter().map(|change| change.id));
            token = page.next_sync_token;
            assert_eq!(page.has_more, told.len() < ids.len(), "{page_size}: {}", told.len());
            if !page.has_more {
                break;
            }
        }
        assert_eq!(told, ids);
        assert_eq!(ann.changed(&token).await.0, [""; 0]);
    }
}

async fn a_task_that_changed_twice_comes_once_as_it_is_now(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 2).await;
    let token = ann.caught_up().await;
    ann.complete(&ids[0], "").await.expect("a completion");
    ann.update(Task { id: ids[0].clone(), ..titled("Buy oats") }, &["title"]).await.expect("an update");
    let deleted = ann.delete(&ids[0], "").await.expect("a deletion");
    assert!(deleted.delete_time.is_some());
    let page = ann.changes(&token, 0).await.expect("a page");
    let told: Vec<_> = page.changes.into_iter().map(|change| (change.id, change.task, change.removed)).collect();
    assert_eq!(told, [(deleted.id.clone(), Some(deleted), false)]);
}

async fn what_changes_between_pages_is_told_at_the_end(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 12).await;
    let mut known = Known::default();
    for index in 0..6 {
        let page = ann.changes(&known.token, 2).await.expect("a page");
        known.learn(page.changes, page.next_sync_token);
        // One that has been told, one that is still to come, and one that is new.
        ann.complete(&ids[index], "").await.expect("a completion");
        ann.delete(&ids[11 - index], "").await.expect("a deletion");
        ann.make("Buy oats").await;
    }
    known.pull(&ann, 2).await.expect("the rest");
    assert_eq!(known.tasks, ann.everything().await);
}

async fn what_changes_nothing_is_no_change(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let token = ann.caught_up().await;
    ann.reopen(&task.id, "").await.expect("it is open");
    ann.undelete(&task.id, "").await.expect("it is live");
    ann.update(Task { id: task.id.clone(), ..Task::default() }, &[]).await.expect("nothing is set");
    ann.complete(&task.id, "\"9\"").await.expect_err("another etag");
    let tried = CreateTaskRequest { task: Some(titled("a")), validate_only: true, ..CreateTaskRequest::default() };
    ann.client.clone().create_task(tried).await.expect("it could be done");
    assert_eq!(ann.changed(&token).await.0, [""; 0]);
}

async fn batches_moves_and_deletions_of_lists_are_changes(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut lists = TaskListServiceClient::new(service.channel.clone());
    let list_id = ann.make_list("Shopping").await.id;
    let mut known = Known::default();

    let parent = ann.make("Cook").await;
    let part = ann.create(Task { parent_id: parent.id.clone(), ..titled("Buy milk") }).await.expect("a part");
    let batch = BatchWriteTasksRequest { writes: vec![create("a"), create("b")], ..BatchWriteTasksRequest::default() };
    ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    known.pull(&ann, 0).await.expect("changes");
    assert_eq!(known.tasks.len(), 4);

    let order = MoveTaskRequest { id: parent.id.clone(), list_id: list_id.clone(), ..MoveTaskRequest::default() };
    ann.client.clone().move_task(order).await.expect("a move");
    known.pull(&ann, 0).await.expect("changes");
    assert_eq!(known.tasks[&part.id].list_id, list_id, "a part goes with it");
    assert_eq!(known.tasks, ann.everything().await);

    let request = DeleteTaskListRequest { id: list_id, ..DeleteTaskListRequest::default() };
    lists.delete_task_list(ann.signed(request)).await.expect("a deletion");
    known.pull(&ann, 0).await.expect("changes");
    assert!(known.tasks[&parent.id].delete_time.is_some() && known.tasks[&part.id].delete_time.is_some());
    assert_eq!(known.tasks, ann.everything().await);
}

async fn a_token_that_was_not_issued_to_the_caller_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    make(&ann, 3).await;
    let good = ann.changes("", 2).await.expect("a page").next_sync_token;
    let query = ListTasksRequest { page_size: 2, ..ListTasksRequest::default() };
    let of_a_page = ann.list(query.clone()).await.expect("a page").next_page_token;
    let mut wrong: Vec<String> = (0..good.len())
        .map(|index| {
            let mut bytes = good.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect();
    wrong.extend(["1", "\0", "🥛", "====", " "].map(str::to_owned));
    wrong.extend([good[1..].to_owned(), format!("{good}A"), format!("{good}="), "A".repeat(good.len()), of_a_page]);
    wrong.extend([bob.caught_up().await, "A".repeat(100_000)]);
    for wrong in &wrong {
        assert_refused!(ann.changes(wrong, 0).await, InvalidArgument, "SYNC_TOKEN_INVALID", "sync_token");
        assert_refused!(ann.watch(wrong).await, InvalidArgument, "SYNC_TOKEN_INVALID", "sync_token");
    }
    let as_page = ListTasksRequest { page_token: good.clone(), ..query };
    assert_refused!(ann.list(as_page).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    assert_eq!(ann.changed(&good).await.0.len(), 1, "the good one is good");
}

async fn a_negative_page_size_of_changes_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    for page_size in [-1, i32::MIN] {
        let outcome = service.user().changes("", page_size).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "page_size");
    }
}

async fn a_page_of_changes_has_fifty_by_default_and_five_hundred_at_most(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for count in [100, 100, 100, 100, 100, 1] {
        let writes = vec![create("Buy milk"); count];
        let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        ann.client.clone().batch_write_tasks(batch).await.expect("a batch");
    }
    for (page_size, expected) in [(0, 50), (499, 499), (500, 500), (501, 500), (i32::MAX, 500)] {
        let page = ann.changes("", page_size).await.expect("a page");
        assert_eq!((page.changes.len(), page.has_more), (expected, true));
    }
}

async fn a_sync_token_is_good_at_every_replica_and_after_a_restart(database: TestDatabase) {
    let service = Service::start(&database).await;
    let replica = service.beside(&database, &[]).await;
    let ann = service.user();
    make(&ann, 3).await;
    let token = ann.changes("", 2).await.expect("a page").next_sync_token;
    let expected = ann.changes(&token, 0).await.expect("a page");
    assert_eq!(ann.at(&replica).changes(&token, 0).await.expect("a page"), expected);
    replica.stop().await;
    let service = service.restart(&database).await;
    assert_eq!(ann.at(&service).changes(&token, 0).await.expect("a page"), expected);
}

async fn an_answer_ends_before_it_gets_too_large(database: TestDatabase) {
    const MAX_BYTES: usize = 40_000;
    let service = Service::start_with(&database, &["--max-response-bytes", &MAX_BYTES.to_string()]).await;
    let ann = service.user();
    for chars in [10, 4000, 4000, 4000, 0, 0, 3000, 4000, 1] {
        ann.create(Task { notes: "🥛".repeat(chars), ..titled("Buy milk") }).await.expect("a task is made");
    }
    let page = ann.changes("", 500).await.expect("a page");
    assert!(page.has_more && (28_000..=MAX_BYTES).contains(&page.encoded_len()), "{}", page.encoded_len());
    let (mut known, mut watched) = (Known::default(), Known::default());
    known.pull(&ann, 500).await.expect("all of it");
    assert_eq!(known.tasks, ann.everything().await);
    let mut watch = ann.watch("").await.expect("a watch");
    watched.hear_until(&mut watch, &known.tasks).await;
}
