//! Concurrent calls.

use std::collections::HashSet;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, task::State};

use crate::support::{Service, titled};

on_each_database!(
    all_concurrent_creations_take_effect,
    only_invalid_requests_among_concurrent_ones_fail,
    one_of_two_concurrent_updates_with_the_same_etag_succeeds,
    concurrent_completions_change_the_task_once,
    acknowledged_tasks_survive_a_restart,
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
        assert_eq!((completed.state(), &completed.etag[..]), (State::Completed, "\"2\""));
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
