//! Purged tasks in the change feed.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use tokio::time::timeout;

use crate::{
    delete::{execute, open_database},
    follow::LocalCopy,
    support::{Service, User, WAIT_TIMEOUT, pause},
};

on_each_database!(
    purged_task_is_reported_as_removed,
    task_past_its_purge_time_is_reported_as_removed,
    first_request_does_not_report_earlier_removals,
    sync_token_from_before_forgotten_removals_is_expired,
    sync_token_newer_than_a_restored_database_is_expired,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Waits until there is a change after a token. Returns the id of each changed task and whether it was removed.
async fn wait_for_changes(user: &User, token: &str) -> Vec<(String, bool)> {
    let changed = async {
        loop {
            let page = user.changes(token, 500).await.expect("a page");
            if !page.changes.is_empty() {
                return page.changes.into_iter().map(|change| (change.id, change.removed)).collect();
            }
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, changed).await.expect("something changes")
}

async fn purged_task_is_reported_as_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    ann.delete(&milk.id, "").await.expect("a deletion");
    let mut copy = LocalCopy::default();
    copy.pull(&ann, 1).await.expect("changes");
    assert!(copy.tasks[&milk.id].delete_time.is_some());

    service.manual_clock.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    assert_eq!(wait_for_changes(&ann, &copy.token).await, [(milk.id, true)]);
    copy.pull(&ann, 1).await.expect("changes");
    assert_eq!(copy.tasks.into_keys().collect::<Vec<_>>(), [oats.id]);
    assert_eq!(ann.changed_ids(&copy.token).await.0, [""; 0]);
}

async fn task_past_its_purge_time_is_reported_as_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let token = ann.current_sync_token().await;
    ann.delete(&task.id, "").await.expect("a deletion");
    service.manual_clock.advance(30 * DAY);
    assert_eq!(wait_for_changes(&ann, &token).await, [(task.id, true)], "it counts as removed, purged or not");
    let mut copy = LocalCopy::default();
    copy.pull(&ann, 1).await.expect("changes");
    assert!(copy.tasks.is_empty());
}

async fn first_request_does_not_report_earlier_removals(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let purged = ann.make("Buy milk").await;
    let remaining = [ann.make("Buy oats").await.id, ann.make("Buy tea").await.id];
    ann.delete(&purged.id, "").await.expect("a deletion");
    let token = ann.current_sync_token().await;
    service.manual_clock.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    assert_eq!(wait_for_changes(&ann, &token).await, [(purged.id, true)]);

    assert_eq!(ann.changed_ids("").await.0, remaining);
    // The first change is the default list.
    let first_page = ann.changes("", 2).await.expect("a page");
    assert_eq!(ann.changed_ids(&first_page.next_sync_token).await.0, [&*remaining[1]]);
}

async fn sync_token_from_before_forgotten_removals_is_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    bob.make("Buy tea").await;
    let (oldest, token_of_bob) = (ann.current_sync_token().await, bob.current_sync_token().await);
    ann.delete(&milk.id, "").await.expect("a deletion");
    let after_deletion = ann.current_sync_token().await;
    service.manual_clock.advance(30 * DAY);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.connected_to(&service), bob.connected_to(&service));
    assert_eq!(wait_for_changes(&ann, &after_deletion).await, [(milk.id.clone(), true)]);
    let after_removal = ann.changed_ids(&after_deletion).await.1;
    ann.make("Buy tea").await;
    let first_page = ann.changes("", 1).await.expect("a page");
    assert!(first_page.has_more);

    // A removal is remembered for 30 days.
    service.manual_clock.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    for token in [&oldest, &after_deletion] {
        assert!(wait_for_changes(&ann, token).await.contains(&(milk.id.clone(), true)));
    }
    service.manual_clock.advance(DAY);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.connected_to(&service), bob.connected_to(&service));
    let forgotten = async { while ann.changes(&oldest, 0).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, forgotten).await.expect("the removal is forgotten");
    for token in [&oldest, &after_deletion] {
        assert_refused!(ann.changes(token, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
        assert_refused!(ann.watch(token).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    }
    // Tokens from after the removal, or from a sync that started after it, are still valid.
    assert_eq!(ann.changed_ids(&after_removal).await.0.len(), 1);
    let mut copy = LocalCopy::default();
    copy.apply_page(first_page);
    copy.pull(&ann, 1).await.expect("the rest");
    assert_eq!(copy.tasks, ann.all_tasks().await);
    assert!(copy.tasks.contains_key(&oats.id));
    assert_eq!(bob.changed_ids(&token_of_bob).await.0, [""; 0], "other users are not affected");
}

async fn sync_token_newer_than_a_restored_database_is_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let first = ann.make("Buy milk").await;
    let before = ann.current_sync_token().await;
    ann.make("Buy oats").await;
    let after = ann.current_sync_token().await;
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);

    // Restore the state between the two creations.
    let db = open_database(&database.parsed_url()).await;
    execute(&db, "delete from tasks where change > 1").await;
    execute(&db, "update owners set last_change = 1").await;
    assert_refused!(ann.changes(&after, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_eq!(ann.changed_ids(&before).await.0, [""; 0]);
    assert_eq!(ann.changed_ids("").await.0, [first.id]);
    db.close().await;
}
