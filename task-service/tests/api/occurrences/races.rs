//! Concurrent completions of one occurrence.

use std::collections::HashSet;

use futures::future::join_all;
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::Task;

use super::recurring;
use crate::{calls::complete, support::Service};

on_each_database!(two_replicas_complete_one_occurrence_once, completions_and_skips_never_create_two_occurrences);

const ROUNDS: usize = 10;

async fn two_replicas_complete_one_occurrence_once(database: TestDatabase) {
    let first = Service::start(&database).await;
    let second = first.start_replica(&database, &[]).await;
    let ann = first.user();
    let replicas = [ann.clone(), ann.connected_to(&second)];
    let parent = ann.make_recurring("2090-01-01", "FREQ=DAILY").await;
    ann.make_subtask(&parent, "Fill the can").await;
    let mut task = parent;
    for round in 1..=ROUNDS {
        let completions = (0..8).map(|call| {
            let (user, id) = (&replicas[call % 2], &task.id);
            async move {
                // Alone, with subtasks, and in a batch.
                match call / 2 {
                    0 | 1 => user.complete(id, "").await,
                    2 => user.complete_with_subtasks(id).await,
                    _ => user.batch([complete(id)]).await.map(|mut tasks| tasks.remove(0)),
                }
            }
        });
        let completed = join_all(completions).await;
        let next_ids: HashSet<_> = completed.into_iter().map(|task| task.expect("a completion").next_task_id).collect();
        assert_eq!(next_ids.len(), 1, "{next_ids:?}");
        task = ann.get(&next_ids.into_iter().next().expect("an id")).await.expect("there is a next occurrence");
        // Each has a subtask of its own.
        assert_eq!(ann.list_all(0, true).await.len(), 2 * (round + 1));
        assert_eq!(ann.subtask_titles(&task).await, ["Fill the can"]);
    }
    second.stop().await;
}

async fn completions_and_skips_never_create_two_occurrences(database: TestDatabase) {
    let first = Service::start(&database).await;
    let second = first.start_replica(&database, &[]).await;
    let ann = first.user();
    let bob = ann.connected_to(&second);
    for _ in 0..ROUNDS {
        let task = ann.create(recurring("2090-01-01", "FREQ=DAILY")).await.expect("the task is created");
        let (completed, skipped) = tokio::join!(ann.complete(&task.id, ""), bob.skip(&task.id));
        let completed = completed.expect("a completion");
        let next = ann.get(&completed.next_task_id).await.expect("there is a next occurrence");
        // The skip came first, or was refused.
        let expected = if skipped.is_ok() { ["2090-01-02", "2090-01-03"] } else { ["2090-01-01", "2090-01-02"] };
        assert_eq!([&completed.due_date[..], &next.due_date], expected);
        let in_series = |other: &Task| other.series_id == task.series_id;
        assert_eq!(ann.tasks_by_rank(true).await.into_iter().filter(in_series).count(), 2);
    }
    second.stop().await;
}
