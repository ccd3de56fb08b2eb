//! `ListTasks`: pages and page tokens.

use std::collections::HashSet;

use futures::future::join_all;
use prost::Message;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{ListTasksRequest, Task};

use crate::support::{Service, User, titled};

on_each_database!(
    pages_contain_every_task_once_newest_first,
    page_has_fifty_tasks_by_default_and_five_hundred_at_most,
    negative_page_size_is_refused,
    page_size_may_change_between_pages,
    forged_page_token_is_refused,
    page_token_of_another_user_is_refused,
    page_token_of_another_query_is_refused,
    page_token_is_valid_at_every_replica_and_after_a_restart,
    pages_stay_in_order_while_tasks_are_created_and_deleted,
    page_stays_below_the_response_limit,
    words_are_found_in_short_and_in_long_tasks,
);

/// Returns a request for a page.
fn page(page_size: i32, page_token: &str) -> ListTasksRequest {
    ListTasksRequest {
        page_size,
        page_token: page_token.to_owned(),
        show_deleted: false,
        ..ListTasksRequest::default()
    }
}

/// Creates tasks and returns their ids in list order.
async fn make(user: &User, count: usize) -> Vec<String> {
    let tasks = join_all((0..count).map(|_| user.make("Buy milk"))).await;
    let mut ids: Vec<_> = tasks.into_iter().map(|task| task.id).collect();
    ids.sort_by(|one, other| other.cmp(one));
    ids
}

/// Creates tasks and returns the token of a second page.
async fn token(user: &User) -> String {
    make(user, 3).await;
    let page = user.list(page(2, "")).await.expect("a page");
    assert!(!page.next_page_token.is_empty());
    page.next_page_token
}

async fn pages_contain_every_task_once_newest_first(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    assert_eq!(ann.list_all(3, false).await, [""; 0]);
    let ids = make(&ann, 9).await;
    for page_size in [1, 2, 3, 8, 9, 10] {
        assert_eq!(ann.list_all(page_size, false).await, ids);
    }
    // The last page has no token, even if it is full.
    let all = ann.list(page(9, "")).await.expect("a page");
    assert_eq!((all.tasks.len(), &all.next_page_token[..]), (9, ""));
    let task = ann.get(&ids[0]).await.expect("it exists");
    assert_eq!(all.tasks[0], task);
}

async fn words_are_found_in_short_and_in_long_tasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut created = Vec::new();
    for (title, before) in [("b", 0), ("d", 500), ("a", 395), ("e", 396), ("c", 3900), ("f", 1), ("other", 0)] {
        let notes = if title == "other" { "nothing".to_owned() } else { format!("{}milk", " ".repeat(before)) };
        created.push(ann.create(Task { notes, ..titled(title) }).await.expect("the task is created"));
    }
    created.pop();
    let by_title = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
    let newest: Vec<_> = created.iter().rev().map(|task| task.title.clone()).collect();
    for (order_by, expected) in [("title", by_title.to_vec()), ("", newest)] {
        for page_size in [1, 2, 6] {
            let filter = "milk NOT other".to_owned();
            let mut request = ListTasksRequest { filter, order_by: order_by.to_owned(), ..page(page_size, "") };
            let mut found = Vec::new();
            loop {
                let page = ann.list(request.clone()).await.expect("a page");
                found.extend(page.tasks.into_iter().map(|task| task.title));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(found, expected, "{order_by:?} by pages of {page_size}");
        }
    }
    // Tasks are also found after an update made them long or short.
    let [short, long] = [&created[0], &created[1]].map(|task| task.id.clone());
    ann.update(Task { id: short.clone(), notes: "oats ".repeat(200), ..Task::default() }, &["notes"])
        .await
        .expect("long");
    ann.update(Task { id: long.clone(), notes: "oats".to_owned(), ..Task::default() }, &["notes"])
        .await
        .expect("short");
    let request = ListTasksRequest { filter: "oats".to_owned(), ..page(9, "") };
    let found: Vec<_> = ann.list(request).await.expect("a page").tasks.into_iter().map(|task| task.id).collect();
    assert_eq!(found, [long, short]);
}

async fn page_has_fifty_tasks_by_default_and_five_hundred_at_most(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    make(&ann, 501).await;
    for (page_size, expected) in [(0, 50), (499, 499), (500, 500), (501, 500), (i32::MAX, 500)] {
        let page = ann.list(page(page_size, "")).await.expect("a page");
        assert_eq!(page.tasks.len(), expected);
        assert!(!page.next_page_token.is_empty());
    }
}

async fn negative_page_size_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    for page_size in [-1, i32::MIN] {
        let outcome = service.user().list(page(page_size, "")).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "page_size");
    }
}

async fn page_size_may_change_between_pages(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 6).await;
    let first = ann.list(page(1, "")).await.expect("a page");
    let second = ann.list(page(3, &first.next_page_token)).await.expect("a page");
    let third = ann.list(page(0, &second.next_page_token)).await.expect("a page");
    let tasks = [first.tasks, second.tasks, third.tasks].concat();
    assert_eq!(tasks.into_iter().map(|task| task.id).collect::<Vec<_>>(), ids);
}

async fn forged_page_token_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let valid = token(&ann).await;
    let mut forged: Vec<String> = (0..valid.len())
        .map(|index| {
            let mut bytes = valid.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect();
    forged.extend(["1", "A", "\0", "🥛", "====", "' or 1=1 --", " "].map(str::to_owned));
    forged.extend([valid[1..].to_owned(), valid[..valid.len() - 1].to_owned(), "A".repeat(44), "A".repeat(200_000)]);
    forged.extend([format!("{valid}A"), format!("{valid}="), format!("{valid}\n"), format!("{valid}{valid}")]);
    for forged in forged {
        assert_refused!(ann.list(page(2, &forged)).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    }
    ann.list(page(2, &valid)).await.expect("the unchanged token is valid");
}

async fn page_token_of_another_user_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let token_of_ann = token(&ann).await;
    assert_refused!(bob.list(page(2, &token_of_ann)).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
}

async fn page_token_of_another_query_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let token_without_deleted = token(&ann).await;
    let with_deleted = ListTasksRequest { show_deleted: true, ..page(2, &token_without_deleted) };
    assert_refused!(ann.list(with_deleted).await, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
}

async fn page_token_is_valid_at_every_replica_and_after_a_restart(database: TestDatabase) {
    let (service, replica) = (Service::start(&database).await, Service::start(&database).await);
    let ann = service.user();
    let token = token(&ann).await;
    let expected = ann.list(page(2, &token)).await.expect("a page");
    assert_eq!(ann.connected_to(&replica).list(page(2, &token)).await.expect("a page"), expected);
    replica.stop().await;
    let service = service.restart(&database).await;
    assert_eq!(ann.connected_to(&service).list(page(2, &token)).await.expect("a page"), expected);
}

async fn pages_stay_in_order_while_tasks_are_created_and_deleted(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let ids = make(&ann, 30).await;
    let mut seen = Vec::new();
    let mut next = String::new();
    for round in 0.. {
        let page = ann.list(page(4, &next)).await.expect("a page");
        seen.extend(page.tasks.into_iter().map(|task| task.id));
        next = page.next_page_token;
        if next.is_empty() {
            break;
        }
        make(&ann, 2).await;
        // Delete the task at which the next page begins, and one on a later page.
        for id in [&ids[round * 4 + 3], &ids[29 - round]] {
            _ = ann.delete(id, "").await;
        }
    }
    let unique: HashSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len());
    assert!(seen.is_sorted_by(|one, other| one > other));
    let active = ann.list_all(0, false).await;
    assert!(ids.iter().filter(|id| active.contains(*id)).all(|id| unique.contains(id)));
}

async fn page_stays_below_the_response_limit(database: TestDatabase) {
    const MAX_BYTES: usize = 40_000;
    let service = Service::start_with(&database, &["--max-response-bytes", &MAX_BYTES.to_string()]).await;
    let ann = service.user();
    let mut ids = Vec::new();
    for chars in [10, 4000, 4000, 4000, 0, 0, 3000, 4000, 1] {
        let task = Task { notes: "🥛".repeat(chars), ..titled("Buy milk") };
        ids.insert(0, ann.create(task).await.expect("the task is created").id);
    }
    assert_eq!(ann.list_all(500, false).await, ids);
    let first = ann.list(page(500, "")).await.expect("a page");
    let (tasks, bytes) = (first.tasks.len(), first.encoded_len());
    assert_eq!(tasks, 5);
    assert!((28_000..=MAX_BYTES).contains(&bytes), "{bytes}");
}
