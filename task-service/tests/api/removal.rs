//! The tasks of deleted accounts go.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{on_each_database, testing::TestDatabase};
use tokio::{task::yield_now, time::timeout};

use crate::support::{PATIENCE, Service, User};

on_each_database!(
    all_tasks_of_a_deleted_account_go_and_all_others_stay,
    what_was_deleted_while_the_service_was_down_is_made_up_for,
    a_list_that_was_restored_from_a_backup_is_heard_from_its_beginning,
    more_accounts_than_a_page_holds_are_all_heard,
    a_task_that_is_made_after_the_sweep_goes_an_hour_later,
);

/// Waits until a user has no tasks. The feed does not revoke sessions, so one can look.
async fn emptied(user: &User) {
    let emptied = async {
        while !user.list_all(500, true).await.is_empty() {
            yield_now().await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("the tasks go");
}

async fn with_task(service: &Service) -> User {
    let user = service.user();
    user.make("Buy milk").await;
    user
}

async fn all_tasks_of_a_deleted_account_go_and_all_others_stay(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    // More than go with one statement.
    for _ in 0..11 {
        join_all((0..50).map(|_| ann.make("Buy milk"))).await;
    }
    let deleted = ann.make("Buy tea").await;
    ann.delete(&deleted.id, "").await.expect("deleted");
    let kept = bob.make("Call Ann").await;

    service.feed.delete([ann.id]);
    emptied(&ann).await;
    assert_eq!(bob.list_all(500, true).await, [kept.id]);
    service.stop().await;
}

async fn what_was_deleted_while_the_service_was_down_is_made_up_for(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob, eve) = (with_task(&service).await, with_task(&service).await, with_task(&service).await);
    service.feed.delete([ann.id]);
    emptied(&ann).await;

    let service = service.restart(&database).await;
    let (bob, eve) = (bob.at(&service), eve.at(&service));
    service.feed.delete([ann.id, bob.id]);
    emptied(&bob).await;
    assert_eq!(service.feed.asked_after(), [1], "it goes on where it was");
    assert_eq!(eve.list_all(500, false).await.len(), 1);
    service.stop().await;
}

async fn a_list_that_was_restored_from_a_backup_is_heard_from_its_beginning(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob, eve) = (with_task(&service).await, with_task(&service).await, with_task(&service).await);
    service.feed.delete([service.user().id, service.user().id, ann.id]);
    emptied(&ann).await;

    let service = service.restart(&database).await;
    let (bob, eve) = (bob.at(&service), eve.at(&service));
    service.feed.delete([bob.id]);
    emptied(&bob).await;
    service.feed.delete([eve.id]);
    emptied(&eve).await;
    assert_eq!(service.feed.asked_after(), [3, 1], "the place is as low as it was heard");
    service.stop().await;
}

async fn more_accounts_than_a_page_holds_are_all_heard(database: TestDatabase) {
    let service = Service::start(&database).await;
    let users: Vec<_> = (0..1001).map(|_| service.user()).collect();
    let with_tasks = [&users[0], &users[499], &users[500], &users[1000]];
    join_all(with_tasks.map(|user| user.make("Buy milk"))).await;
    service.feed.delete(users.iter().map(|user| user.id));
    for user in with_tasks {
        emptied(user).await;
    }
    assert_eq!(service.feed.asked_after(), [0, 500, 1000]);
    service.stop().await;
}

async fn a_task_that_is_made_after_the_sweep_goes_an_hour_later(database: TestDatabase) {
    const MINUTE: Duration = Duration::from_secs(60);
    let service = Service::start(&database).await;
    let ann = with_task(&service).await;
    service.feed.delete([ann.id]);
    emptied(&ann).await;
    let late = ann.make("Buy oats").await;

    service.hands.advance(59 * MINUTE);
    let bob = with_task(&service).await;
    service.feed.delete([bob.id]);
    emptied(&bob).await;
    assert_eq!(ann.list_all(500, false).await, [late.id], "a token may still be good, so it is too early");

    service.hands.advance(MINUTE);
    let service = service.restart(&database).await;
    let (ann, bob) = (ann.at(&service), bob.at(&service));
    emptied(&ann).await;
    // From then on nothing is known of the account any more, as nothing can come of it.
    let later = ann.make("Buy tea").await;
    service.hands.advance(61 * MINUTE);
    bob.make("Buy tea").await;
    let service = service.restart(&database).await;
    emptied(&bob.at(&service)).await;
    assert_eq!(ann.at(&service).list_all(500, false).await, [later.id]);
    service.stop().await;
}
