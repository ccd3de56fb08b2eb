//! What those who follow the changes learn of tasks that are gone for good.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use tokio::{task::yield_now, time::timeout};

use crate::{
    delete::{execute, open},
    follow::Known,
    support::{PATIENCE, Service, User},
};

on_each_database!(
    a_purged_task_comes_as_removed,
    a_task_past_its_purge_time_is_not_told_any_more,
    who_begins_is_not_told_what_was_removed_before,
    a_token_from_before_what_is_forgotten_has_expired,
    a_token_of_what_a_restored_database_has_lost_has_expired,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Waits until there is a change after a token, and answers the changes as ids, each with whether the task is gone.
async fn told(user: &User, token: &str) -> Vec<(String, bool)> {
    let told = async {
        loop {
            let page = user.changes(token, 500).await.expect("a page");
            if !page.changes.is_empty() {
                return page.changes.into_iter().map(|change| (change.id, change.removed)).collect();
            }
            yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.expect("something changes")
}

async fn a_purged_task_comes_as_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    ann.delete(&milk.id, "").await.expect("a deletion");
    let mut known = Known::default();
    known.pull(&ann, 1).await.expect("changes");
    assert!(known.tasks[&milk.id].delete_time.is_some());

    service.hands.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.at(&service);
    assert_eq!(told(&ann, &known.token).await, [(milk.id, true)]);
    known.pull(&ann, 1).await.expect("changes");
    assert_eq!(known.tasks.into_keys().collect::<Vec<_>>(), [oats.id]);
    assert_eq!(ann.changed(&known.token).await.0, [""; 0]);
}

async fn a_task_past_its_purge_time_is_not_told_any_more(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let token = ann.caught_up().await;
    ann.delete(&task.id, "").await.expect("a deletion");
    service.hands.advance(30 * DAY);
    assert_eq!(told(&ann, &token).await, [(task.id, true)], "it is missing, purged or not");
    let mut known = Known::default();
    known.pull(&ann, 1).await.expect("changes");
    assert!(known.tasks.is_empty());
}

async fn who_begins_is_not_told_what_was_removed_before(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let gone = ann.make("Buy milk").await;
    let left = [ann.make("Buy oats").await.id, ann.make("Buy tea").await.id];
    ann.delete(&gone.id, "").await.expect("a deletion");
    let token = ann.caught_up().await;
    service.hands.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.at(&service);
    assert_eq!(told(&ann, &token).await, [(gone.id, true)]);

    assert_eq!(ann.changed("").await.0, left);
    let begun = ann.changes("", 1).await.expect("a page");
    assert_eq!(ann.changed(&begun.next_sync_token).await.0, [&*left[1]]);
}

async fn a_token_from_before_what_is_forgotten_has_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    bob.make("Buy tea").await;
    let (long_ago, bobs) = (ann.caught_up().await, bob.caught_up().await);
    ann.delete(&milk.id, "").await.expect("a deletion");
    let deleted = ann.caught_up().await;
    service.hands.advance(30 * DAY);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.at(&service), bob.at(&service));
    assert_eq!(told(&ann, &deleted).await, [(milk.id.clone(), true)]);
    let caught_up = ann.changed(&deleted).await.1;
    ann.make("Buy tea").await;
    let under_way = ann.changes("", 1).await.expect("a page");
    assert!(under_way.has_more);

    // For 30 days it is known.
    service.hands.advance(30 * DAY);
    let service = service.restart(&database).await;
    let ann = ann.at(&service);
    for token in [&long_ago, &deleted] {
        assert!(told(&ann, token).await.contains(&(milk.id.clone(), true)));
    }
    service.hands.advance(DAY);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.at(&service), bob.at(&service));
    let forgotten = async { while ann.changes(&long_ago, 0).await.is_ok() {} };
    timeout(PATIENCE, forgotten).await.expect("it is forgotten in the end");
    for token in [&long_ago, &deleted] {
        assert_refused!(ann.changes(token, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
        assert_refused!(ann.watch(token).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    }
    // Whoever knows that it is gone, or has never heard of it, misses nothing.
    assert_eq!(ann.changed(&caught_up).await.0.len(), 1);
    let mut known = Known::default();
    known.learn(under_way.changes, under_way.next_sync_token);
    known.pull(&ann, 1).await.expect("the rest");
    assert_eq!(known.tasks, ann.everything().await);
    assert!(known.tasks.contains_key(&oats.id));
    assert_eq!(bob.changed(&bobs).await.0, [""; 0], "others are not concerned");
}

async fn a_token_of_what_a_restored_database_has_lost_has_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let first = ann.make("Buy milk").await;
    let before = ann.caught_up().await;
    ann.make("Buy oats").await;
    let after = ann.caught_up().await;
    let service = service.restart(&database).await;
    let ann = ann.at(&service);

    // As a backup from between the two has it.
    let db = open(&database.parsed_url()).await;
    execute(&db, "delete from tasks where change > 1").await;
    execute(&db, "update owners set last_change = 1").await;
    assert_refused!(ann.changes(&after, 0).await, OutOfRange, "SYNC_TOKEN_EXPIRED", "sync_token");
    assert_eq!(ann.changed(&before).await.0, [""; 0]);
    assert_eq!(ann.changed("").await.0, [first.id]);
    db.close().await;
}
