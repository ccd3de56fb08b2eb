//! Pages of a history, and requests that are refused.

use prost::Message;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, TaskHistoryEntry};

use crate::support::{Service, titled};

on_each_database!(
    pages_contain_each_entry_once,
    page_of_a_history_stays_below_the_response_limit,
    history_of_another_user_is_indistinguishable_from_a_missing_one,
    invalid_requests_are_refused,
);

async fn pages_contain_each_entry_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    for number in 0..5 {
        let task = Task { id: task.id.clone(), notes: number.to_string(), ..titled(&format!("Buy milk {number}")) };
        ann.update(task, &["title", "notes"]).await.expect("an update");
    }
    let all = ann.history(&task.id).await;
    assert_eq!(all.len(), 11);
    assert!(all.is_sorted_by(|newer, older| {
        let key = |entry: &TaskHistoryEntry| entry.change_time.map(|time| (time.seconds, time.nanos));
        key(newer) >= key(older)
    }));
    for page_size in [1, 2, 3, 10, 11] {
        let (mut entries, mut token) = (Vec::new(), String::new());
        loop {
            let page = ann.history_page(&task.id, page_size, &token).await.expect("a page");
            assert!((1..=page_size.unsigned_abs() as usize).contains(&page.entries.len()));
            entries.extend(page.entries);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(entries, all, "{page_size}");
    }
    assert_eq!(ann.history_page(&task.id, 0, "").await.expect("a page").entries, all);
}

async fn page_of_a_history_stays_below_the_response_limit(database: TestDatabase) {
    const MAX_BYTES: usize = 40_000;
    let service = Service::start_with(&database, &["--max-response-bytes", &MAX_BYTES.to_string()]).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    for text in ["🥛", "🌾", "🍵", "🥛", "🌾", "🍵", "🥛"] {
        let notes = text.repeat(2000);
        ann.update(Task { id: task.id.clone(), notes, ..Task::default() }, &["notes"]).await.expect("an update");
    }
    let first = ann.history_page(&task.id, 500, "").await.expect("a page");
    // An entry has two values of about 4 KB.
    assert_eq!(first.entries.len(), 4);
    assert!((30_000..=MAX_BYTES).contains(&first.encoded_len()), "{}", first.encoded_len());
    let second = ann.history_page(&task.id, 500, &first.next_page_token).await.expect("a page");
    assert_eq!((second.entries.len(), &second.next_page_token[..]), (4, ""));
}

async fn history_of_another_user_is_indistinguishable_from_a_missing_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (active, deleted) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    ann.delete(&deleted.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for id in [&active.id, &deleted.id, &missing] {
        assert_refused!(bob.history_page(id, 0, "").await, NotFound, "TASK_NOT_FOUND");
    }
    assert_refused!(ann.history_page(&missing, 0, "").await, NotFound, "TASK_NOT_FOUND");
}

async fn invalid_requests_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (milk, oats, tea) = (ann.make("Buy milk").await, ann.make("Buy oats").await, bob.make("Buy tea").await);
    ann.complete(&milk.id, "").await.expect("a completion");
    let token = ann.history_page(&milk.id, 1, "").await.expect("a page").next_page_token;
    assert_ne!(token, "");
    for id in ["", "1", &milk.id.replace('-', "")] {
        assert_refused!(ann.history_page(id, 0, "").await, InvalidArgument, "VALIDATION_FAILED", "id");
    }
    assert_refused!(ann.history_page(&milk.id, -1, "").await, InvalidArgument, "VALIDATION_FAILED", "page_size");
    let list_token = ann.list_lists(1, "").await.expect("a page").next_page_token;
    assert_eq!(list_token, "", "there is one list");
    let outcomes = [
        ann.history_page(&oats.id, 1, &token).await,
        bob.history_page(&tea.id, 1, &token).await,
        ann.history_page(&milk.id, 1, "x").await,
        ann.history_page(&milk.id, 1, &ann.current_sync_token().await).await,
    ];
    for outcome in outcomes {
        assert_refused!(outcome, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    }
}
