//! Lists in the change feed.

use std::time::Duration;

use prost::Message;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest, TaskList};
use tokio::time::timeout;

use crate::{
    follow::{LocalCopy, next},
    lists::{named, update},
    support::{Service, User, WAIT_TIMEOUT, titled},
};

on_each_database!(
    created_renamed_and_deleted_lists_are_reported,
    default_list_of_a_new_account_is_reported,
    deletion_of_a_list_is_reported_together_with_its_tasks,
    list_that_does_not_change_is_not_reported,
    pages_of_any_size_contain_every_list_once,
    watch_reports_lists_that_change_at_another_replica,
    page_of_lists_stays_below_the_response_limit,
    first_request_does_not_report_deleted_lists,
    sync_token_from_before_a_forgotten_deletion_is_expired,
    id_of_a_deleted_list_is_not_used_for_a_task,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns what changed since a token: of each list its id and, unless it was deleted, the list itself.
async fn changed_lists(user: &User, token: &str) -> Vec<(String, Option<TaskList>)> {
    let page = user.changes(token, 500).await.expect("a page");
    assert!(!page.has_more);
    assert!(page.list_changes.iter().all(|change| change.removed == change.task_list.is_none()));
    page.list_changes.into_iter().map(|change| (change.id, change.task_list)).collect()
}

async fn created_renamed_and_deleted_lists_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let start = ann.current_sync_token().await;
    let (work, home) = (ann.make_list("Work").await, ann.make_list("Home").await);
    assert_eq!(
        changed_lists(&ann, &start).await,
        [(work.id.clone(), Some(work.clone())), (home.id.clone(), Some(home.clone()))]
    );
    let created = ann.current_sync_token().await;
    let renamed = update(&ann, named(&work, "Office"), &[]).await.expect("an update");
    assert_eq!(changed_lists(&ann, &created).await, [(work.id.clone(), Some(renamed.clone()))]);
    assert_eq!(
        changed_lists(&ann, &start).await,
        [(home.id.clone(), Some(home.clone())), (work.id.clone(), Some(renamed))],
        "lists are in the order of their last change"
    );
    ann.delete_list(&work.id, "").await.expect("a deletion");
    for token in [&start, &created] {
        assert!(changed_lists(&ann, token).await.contains(&(work.id.clone(), None)));
    }
}

async fn default_list_of_a_new_account_is_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let [pulling, watching, writing] = [service.user(), service.user(), service.user()];
    let pulled = changed_lists(&pulling, "").await;
    let mut watch = watching.watch("").await.expect("a watch");
    let watched = next(&mut watch).await.expect("a message");
    writing.make("Buy milk").await;
    let written = changed_lists(&writing, "").await;
    for (user, lists) in [
        (&pulling, pulled),
        (&watching, watched.list_changes.into_iter().map(|change| (change.id, change.task_list)).collect()),
        (&writing, written),
    ] {
        let default = user.get_list(&user.id.to_string()).await.expect("it exists");
        assert!(default.is_default);
        assert_eq!(lists, [(default.id.clone(), Some(default))]);
    }
    // Later calls do not create it again.
    let token = pulling.current_sync_token().await;
    pulling.watch("").await.expect("a watch");
    assert_eq!(changed_lists(&pulling, &token).await, []);
}

async fn deletion_of_a_list_is_reported_together_with_its_tasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let default = ann.id.to_string();
    for move_tasks_to in ["", &default] {
        let list = ann.make_list("Errands").await;
        let task = ann.make_in(&list, "Buy milk").await;
        let mut copy = LocalCopy::default();
        copy.pull(&ann, 1).await.expect("changes");
        let mut watch = ann.watch(&copy.token).await.expect("a watch");
        next(&mut watch).await.expect("a message");
        ann.delete_list(&list.id, move_tasks_to).await.expect("a deletion");

        let message = next(&mut watch).await.expect("a message");
        assert_eq!((&message.list_changes[0].id, message.list_changes[0].removed), (&list.id, true));
        assert_eq!(message.changes[0].task.as_ref(), Some(&ann.get(&task.id).await.expect("it exists")));
        copy.apply_message(message);
        assert_eq!((copy.tasks, copy.lists), (ann.all_tasks().await, ann.all_lists().await));
    }
}

async fn list_that_does_not_change_is_not_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let token = ann.current_sync_token().await;
    ann.make_in(&list, "Buy milk").await;
    update(&ann, named(&list, ""), &[]).await.expect("nothing to do");
    let other = TaskList { etag: "\"x\"".to_owned(), ..named(&list, "Other") };
    assert_refused!(update(&ann, other, &[]).await, Aborted, "ETAG_MISMATCH");
    let (task_list, validate_only) = (Some(TaskList { title: "Work".to_owned(), ..TaskList::default() }), true);
    let dry_run = CreateTaskListRequest { task_list, validate_only, ..CreateTaskListRequest::default() };
    ann.lists.clone().create_task_list(dry_run).await.expect("the request is valid");
    let dry_run = DeleteTaskListRequest { id: list.id, validate_only, ..DeleteTaskListRequest::default() };
    ann.lists.clone().delete_task_list(dry_run).await.expect("the request is valid");
    assert_eq!(changed_lists(&ann, &token).await, []);
}

async fn pages_of_any_size_contain_every_list_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for index in 0..4 {
        let list = ann.make_list(&index.to_string()).await;
        ann.make_in(&list, "Buy milk").await;
        ann.delete_list(&ann.make_list("Soon deleted").await.id, "").await.expect("a deletion");
    }
    for page_size in 1..=9 {
        let (mut copy, mut count, mut has_more) = (LocalCopy::default(), 0, true);
        while has_more {
            let page = ann.changes(&copy.token, page_size).await.expect("a page");
            has_more = page.has_more;
            let changes = page.changes.len() + page.list_changes.len();
            assert!(changes <= page_size.unsigned_abs() as usize && (changes > 0 || !has_more), "{page:?}");
            count += changes;
            copy.apply_page(page);
        }
        assert_eq!(count, 9, "four lists with a task each, and the default list");
        assert_eq!((copy.tasks, copy.lists), (ann.all_tasks().await, ann.all_lists().await));
    }
}

async fn watch_reports_lists_that_change_at_another_replica(database: TestDatabase) {
    let service = Service::start(&database).await;
    let replica = service.start_replica(&database, &[]).await;
    let ann = service.user();
    let mut watch = ann.watch("").await.expect("a watch");
    let mut copy = LocalCopy::default();
    copy.receive(&mut watch).await.expect("a message");
    let elsewhere = ann.connected_to(&replica);
    for step in 0..3 {
        match step {
            0 => drop(elsewhere.make_list("Work").await),
            1 => {
                let default = named(&copy.lists[&ann.id.to_string()], "Mine");
                update(&elsewhere, default, &[]).await.expect("an update");
            }
            _ => {
                let work = copy.lists.values().find(|list| !list.is_default).expect("a list").id.clone();
                elsewhere.delete_list(&work, "").await.expect("a deletion");
            }
        }
        let expected = elsewhere.all_lists().await;
        let reported = async {
            while copy.lists != expected {
                copy.receive(&mut watch).await.expect("the watch continues");
            }
        };
        timeout(WAIT_TIMEOUT, reported).await.expect("the change is reported in time");
    }
    replica.stop().await;
}

async fn page_of_lists_stays_below_the_response_limit(database: TestDatabase) {
    const MAX_BYTES: usize = 40_000;
    let service = Service::start_with(&database, &["--max-response-bytes", &MAX_BYTES.to_string()]).await;
    let ann = service.user();
    for _ in 0..50 {
        ann.make_list(&"🥛".repeat(200)).await;
    }
    let page = ann.changes("", 500).await.expect("a page");
    assert!(page.has_more && (38_000..=MAX_BYTES).contains(&page.encoded_len()), "{}", page.encoded_len());
    let mut copy = LocalCopy::default();
    copy.pull(&ann, 500).await.expect("the rest");
    assert_eq!(copy.lists.len(), 51);
}

async fn first_request_does_not_report_deleted_lists(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    let lists = changed_lists(&ann, "").await;
    assert!(lists.iter().all(|(_, list)| list.as_ref().is_some_and(|list| list.is_default)), "{lists:?}");
}

async fn sync_token_from_before_a_forgotten_deletion_is_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let before = ann.current_sync_token().await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    let after = ann.current_sync_token().await;

    // A deletion is remembered for 30 days.
    service.manual_clock.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    assert_eq!(changed_lists(&ann, &before).await, [(list.id, None)]);
    service.manual_clock.advance(DAY);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    let forgotten = async { while ann.changes(&before, 0).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, forgotten).await.expect("the deletion is forgotten");
    assert_refused!(ann.changes(&before, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_eq!(changed_lists(&ann, &after).await, []);
}

async fn id_of_a_deleted_list_is_not_used_for_a_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    let request =
        CreateTaskRequest { task: Some(titled("Buy milk")), task_id: list.id, ..CreateTaskRequest::default() };
    assert_refused!(ann.client.clone().create_task(request).await, AlreadyExists, "TASK_ID_TAKEN", "task_id");
}
