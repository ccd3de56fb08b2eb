//! Many calls at once.

use std::collections::HashSet;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, task::State};

use crate::support::{Service, titled};

on_each_database!(
    concurrent_creations_all_take_effect,
    a_bad_request_among_many_fails_alone,
    of_two_updates_with_the_same_etag_exactly_one_wins,
    of_many_completions_one_is_a_change,
    what_was_acknowledged_survives_a_restart,
);

async fn concurrent_creations_all_take_effect(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let titles: HashSet<_> = (0..50).map(|index| format!("Task {index}")).collect();
    let made = join_all(titles.iter().map(|title| ann.make(title))).await;
    let ids: HashSet<_> = made.iter().map(|task| task.id.clone()).collect();
    assert_eq!(ids.len(), 50);
    assert_eq!(made.into_iter().map(|task| task.title).collect::<HashSet<_>>(), titles);
    assert_eq!(ann.list_all(7, false).await.into_iter().collect::<HashSet<_>>(), ids);
}

async fn a_bad_request_among_many_fails_alone(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let sent: Vec<_> = (0..40).map(|index| if index % 4 == 0 { "a\0b" } else { "Buy milk" }).collect();
    let outcomes = join_all(sent.iter().map(|title| ann.create(titled(title)))).await;
    for (title, outcome) in sent.into_iter().zip(outcomes) {
        if title == "Buy milk" {
            outcome.expect("a task is made");
        } else {
            assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.title");
        }
    }
    assert_eq!(ann.list_all(0, false).await.len(), 30);
}

async fn of_two_updates_with_the_same_etag_exactly_one_wins(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut task = ann.make("Buy milk").await;
    for _ in 0..20 {
        let update = |title: &str| ann.update(Task { title: title.to_owned(), ..task.clone() }, &["title"]);
        let (one, other) = tokio::join!(update("Buy oats"), update("Buy soy"));
        let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_refused!(loser, Aborted, "ETAG_MISMATCH");
        task = winner.expect("one of them wins");
        assert_eq!(ann.get(&task.id).await.expect("it is there"), task);
    }
}

async fn of_many_completions_one_is_a_change(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let answers = join_all((0..20).map(|_| ann.complete(&task.id, ""))).await;
    for answer in answers {
        let completed = answer.expect("a completion");
        assert_eq!((completed.state(), &completed.etag[..]), (State::Completed, "\"2\""));
    }
}

async fn what_was_acknowledged_survives_a_restart(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let made = join_all((0..20).map(|_| ann.make("Buy milk"))).await;
    let service = service.restart(&database).await;
    let ann = ann.at(&service);
    for task in made {
        assert_eq!(ann.get(&task.id).await.expect("it is there"), task);
    }
}
