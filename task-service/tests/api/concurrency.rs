//! Concurrent calls.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, task::State};

use crate::{
    lists,
    support::{Service, titled, with_revision},
};

on_each_database!(
    all_concurrent_creations_take_effect,
    only_invalid_requests_among_concurrent_ones_fail,
    one_of_two_concurrent_updates_with_the_same_etag_succeeds,
    concurrent_completions_change_the_task_once,
    acknowledged_tasks_survive_a_restart,
    update_time_increases_although_the_clocks_of_replicas_differ,
);

async fn all_concurrent_creations_take_effect(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let titles: HashSet<_> = (0..50).map(|index| format!("Task {index}")).collect();
    let created = join_all(titles.iter().map(|title| ann.make(title))).await;
    let ids: HashSet<_> = created.iter().map(|task| task.id.clone()).collect();
    assert_eq!(ids.len(), 50);
    assert_eq!(created.into_iter().map(|task| task.title).collect::<HashSet<_>>(), titles);
    assert_eq!(ann.list_all(7, false).await.into_iter().collect::<HashSet<_>>(), ids);
}

async fn only_invalid_requests_among_concurrent_ones_fail(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let sent: Vec<_> = (0..40).map(|index| if index % 4 == 0 { "a\0b" } else { "Buy milk" }).collect();
    let outcomes = join_all(sent.iter().map(|title| ann.create(titled(title)))).await;
    for (title, outcome) in sent.into_iter().zip(outcomes) {
        if title == "Buy milk" {
            outcome.expect("the task is created");
        } else {
            assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.title");
        }
    }
    assert_eq!(ann.list_all(0, false).await.len(), 30);
}

async fn one_of_two_concurrent_updates_with_the_same_etag_succeeds(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut task = ann.make("Buy milk").await;
    for _ in 0..20 {
        let update = |title: &str| ann.update(Task { title: title.to_owned(), ..task.clone() }, &["title"]);
        let (one, other) = tokio::join!(update("Buy oats"), update("Buy soy"));
        let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_refused!(loser, Aborted, "ETAG_MISMATCH");
        task = winner.expect("one of them succeeds");
        assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
    }
}

async fn concurrent_completions_change_the_task_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let results = join_all((0..20).map(|_| ann.complete(&task.id, ""))).await;
    for result in results {
        let completed = result.expect("a completion");
        assert_eq!((completed.state(), &completed.etag), (State::Completed, &with_revision(&completed.etag, 2)));
    }
}

async fn acknowledged_tasks_survive_a_restart(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = join_all((0..20).map(|_| ann.make("Buy milk"))).await;
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    for task in created {
        assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
    }
}

async fn update_time_increases_although_the_clocks_of_replicas_differ(database: TestDatabase) {
    let (first, second) = (Service::start(&database).await, Service::start(&database).await);
    first.manual_clock.advance(Duration::from_secs(3));
    let ahead = first.user();
    let behind = ahead.connected_to(&second);
    let (list, task) = (ahead.make_list("Errands").await, ahead.make("Buy milk").await);
    let without_etag = Task { title: "Buy oats".to_owned(), etag: String::new(), ..task.clone() };
    let mut versions = vec![(1, nanos(task.update_time))];
    for _ in 0..10 {
        for updated in join_all([&ahead, &behind].map(|user| user.update(without_etag.clone(), &["title"]))).await {
            let updated = updated.expect("an update");
            let is_same = |revision: &u32| with_revision(&task.etag, *revision) == updated.etag;
            versions.push(((2..=21).find(is_same).expect("a revision"), nanos(updated.update_time)));
        }
    }
    versions.sort_unstable();
    assert!(versions.is_sorted_by(|(_, earlier), (_, later)| earlier < later), "{versions:?}");

    let renamed = lists::update(&behind, lists::named(&list, "Shopping"), &["title"]).await.expect("an update");
    assert!(nanos(renamed.update_time) > nanos(list.update_time));
    let moved = ahead.make_in(&list, "Buy rye").await;
    behind.delete_list(&list.id, &ahead.id.to_string()).await.expect("a deletion");
    let moved_again = behind.get(&moved.id).await.expect("it exists");
    assert!(nanos(moved_again.update_time) > nanos(moved.update_time));
    second.stop().await;
}

/// Returns a time as nanoseconds since the Unix epoch.
fn nanos(time: Option<prost_types::Timestamp>) -> i128 {
    let time = time.expect("a time");
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}
