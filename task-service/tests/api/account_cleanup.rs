//! Deletes the tasks of deleted accounts.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{on_each_database, testing::TestDatabase};
use tokio::time::timeout;

use crate::support::{Service, User, WAIT_TIMEOUT, pause};

on_each_database!(
    all_tasks_of_a_deleted_account_are_removed_and_no_others,
    accounts_deleted_while_the_service_was_down_are_cleaned_up,
    restored_account_list_is_read_from_its_beginning,
    more_than_a_page_of_deleted_accounts_is_cleaned_up,
    task_created_after_the_cleanup_is_removed_an_hour_later,
);

/// Waits until a user has no tasks. The feed does not revoke sessions, so the user can still list tasks.
pub(crate) async fn wait_until_empty(user: &User) {
    let emptied = async {
        while !user.list_all(500, true).await.is_empty() {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, emptied).await.expect("the tasks are removed");
}

pub(crate) async fn user_with_task(service: &Service) -> User {
    let user = service.user();
    user.make("Buy milk").await;
    user
}

async fn all_tasks_of_a_deleted_account_are_removed_and_no_others(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    // More than one statement deletes.
    for _ in 0..11 {
        join_all((0..50).map(|_| ann.make("Buy milk"))).await;
    }
    let deleted = ann.make("Buy tea").await;
    ann.delete(&deleted.id, "").await.expect("deleted");
    let task_of_bob = bob.make("Call Ann").await;

    service.feed.delete([ann.id]);
    wait_until_empty(&ann).await;
    assert_eq!(bob.list_all(500, true).await, [task_of_bob.id]);
    service.stop().await;
}

async fn accounts_deleted_while_the_service_was_down_are_cleaned_up(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob, eve) =
        (user_with_task(&service).await, user_with_task(&service).await, user_with_task(&service).await);
    service.feed.delete([ann.id]);
    wait_until_empty(&ann).await;

    let service = service.restart(&database).await;
    let (bob, eve) = (bob.connected_to(&service), eve.connected_to(&service));
    service.feed.delete([bob.id]);
    wait_until_empty(&bob).await;
    assert_eq!(service.feed.requested_cursors(), [1], "reading continues at the stored cursor");
    assert_eq!(eve.list_all(500, false).await.len(), 1);
    service.stop().await;
}

async fn restored_account_list_is_read_from_its_beginning(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob, eve) =
        (user_with_task(&service).await, user_with_task(&service).await, user_with_task(&service).await);
    service.feed.delete([service.user().id, service.user().id, ann.id]);
    wait_until_empty(&ann).await;

    let service = service.restart(&database).await;
    let (bob, eve) = (bob.connected_to(&service), eve.connected_to(&service));
    service.feed.restore([bob.id]);
    wait_until_empty(&bob).await;
    service.feed.delete([eve.id]);
    wait_until_empty(&eve).await;
    assert_eq!(service.feed.requested_cursors(), [3, 1], "the cursor went back to the number that the feed reported");
    service.stop().await;
}

async fn more_than_a_page_of_deleted_accounts_is_cleaned_up(database: TestDatabase) {
    let service = Service::start(&database).await;
    let users: Vec<_> = (0..1001).map(|_| service.user()).collect();
    let with_tasks = [&users[0], &users[499], &users[500], &users[1000]];
    join_all(with_tasks.map(|user| user.make("Buy milk"))).await;
    service.feed.delete(users.iter().map(|user| user.id));
    for user in with_tasks {
        wait_until_empty(user).await;
    }
    assert_eq!(service.feed.requested_cursors(), [0, 500, 1000]);
    service.stop().await;
}

async fn task_created_after_the_cleanup_is_removed_an_hour_later(database: TestDatabase) {
    const MINUTE: Duration = Duration::from_secs(60);
    let service = Service::start(&database).await;
    let ann = user_with_task(&service).await;
    service.feed.delete([ann.id]);
    wait_until_empty(&ann).await;
    let late = ann.make("Buy oats").await;

    service.manual_clock.advance(59 * MINUTE);
    let bob = user_with_task(&service).await;
    service.feed.delete([bob.id]);
    wait_until_empty(&bob).await;
    assert_eq!(ann.list_all(500, false).await, [late.id], "tokens may still be valid, so it is too early");

    service.manual_clock.advance(MINUTE);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.connected_to(&service), bob.connected_to(&service));
    wait_until_empty(&ann).await;
    // From then on the account is forgotten, because no token for it can be valid any more.
    let later = ann.make("Buy tea").await;
    service.manual_clock.advance(61 * MINUTE);
    bob.make("Buy tea").await;
    let service = service.restart(&database).await;
    wait_until_empty(&bob.connected_to(&service)).await;
    assert_eq!(ann.connected_to(&service).list_all(500, false).await, [later.id]);
    service.stop().await;
}
