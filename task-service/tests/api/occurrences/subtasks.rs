//! The subtasks of recurring tasks.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, move_task_request::Position, task::State};

use super::recurring;
use crate::{
    calls::{complete, create, under},
    support::{Service, User, titled},
};

on_each_database!(
    subtasks_at_all_levels_are_renewed,
    subtasks_are_due_as_many_days_later,
    recurring_subtasks_are_moved_to_the_next_occurrence,
    recurring_subtasks_recur_when_they_are_completed_with_their_parent,
    tasks_that_a_batch_moves_to_a_recurring_task_are_renewed,
    more_than_a_hundred_tasks_are_refused,
);

/// Returns the active subtasks of a task by title.
async fn subtasks(user: &User, parent: &str) -> Vec<Task> {
    let mut tasks = user.tasks_by_rank(false).await;
    tasks.retain(|task| task.parent_id == parent);
    tasks.sort_by(|one, other| one.title.cmp(&other.title));
    tasks
}

fn titles(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| &task.title[..]).collect()
}

async fn subtasks_at_all_levels_are_renewed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=WEEKLY").await;
    let notes = "from the cellar".to_owned();
    let can = ann.create(Task { parent_id: task.id.clone(), notes, ..titled("Can") }).await.expect("a creation");
    let handle = ann.make_subtask(&can, "Handle").await;
    let done = ann.make_subtask(&task, "Done").await;
    ann.complete(&done.id, "").await.expect("a completion");
    let deleted = ann.make_subtask(&task, "Gone").await;
    ann.delete(&deleted.id, "").await.expect("a deletion");
    let before = subtasks(&ann, &task.id).await;

    let next = ann.advance(&task).await;
    let renewed = subtasks(&ann, &next.id).await;
    assert_eq!(titles(&renewed), ["Can", "Done"]);
    assert!(renewed.iter().all(|task| task.state() == State::Open && task.complete_time.is_none()));
    assert_eq!((&renewed[0].notes[..], &renewed[0].rank), ("from the cellar", &can.rank));
    assert_eq!(titles(&subtasks(&ann, &renewed[0].id).await), ["Handle"]);
    // Those of the completed occurrence stay as they are.
    assert_eq!(subtasks(&ann, &task.id).await, before);
    assert_eq!(ann.get(&handle.id).await.expect("it exists"), handle);
}

async fn subtasks_are_due_as_many_days_later(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await;
    let subtask = Task { parent_id: task.id.clone(), time_zone: "Europe/Berlin".to_owned(), ..titled("") };
    let dated = Task { title: "Date".to_owned(), due_date: "2090-01-29".to_owned(), ..subtask.clone() };
    let time = |text: &str| Some(text.parse().expect("a time"));
    // Berlin sets its clocks forward on March 26.
    let timed = Task { title: "Time".to_owned(), due_time: time("2090-01-30T08:00:00Z"), ..subtask };
    for subtask in [dated, timed] {
        ann.create(subtask).await.expect("a creation");
    }
    let next = ann.advance(&task).await;
    let renewed = subtasks(&ann, &next.id).await;
    assert_eq!((&renewed[0].due_date[..], renewed[1].due_time), ("2090-02-26", time("2090-02-27T08:00:00Z")));
    let next = ann.advance(&next).await;
    let renewed = subtasks(&ann, &next.id).await;
    assert_eq!((&renewed[0].due_date[..], renewed[1].due_time), ("2090-03-29", time("2090-03-30T07:00:00Z")));
}

async fn recurring_subtasks_are_moved_to_the_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=WEEKLY").await;
    let subtask = Task { parent_id: task.id.clone(), ..recurring("2090-01-31", "FREQ=DAILY") };
    let subtask = ann.create(subtask).await.expect("a creation");
    let below = ann.make_subtask(&subtask, "Can").await;
    let second = ann.advance(&subtask).await;
    assert_eq!((&second.parent_id, &second.due_date[..]), (&task.id, "2090-02-01"));

    let next = ann.advance(&task).await;
    let moved = subtasks(&ann, &next.id).await;
    assert_eq!(moved.iter().map(|task| &task.id).collect::<Vec<_>>(), [&second.id]);
    assert_eq!(titles(&subtasks(&ann, &second.id).await), ["Can"]);
    assert_eq!(ann.get(&below.id).await.expect("it exists").parent_id, subtask.id);
    assert_eq!(ann.get(&subtask.id).await.expect("it exists").parent_id, task.id);
}

async fn recurring_subtasks_recur_when_they_are_completed_with_their_parent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let plain = ann.make("Garden").await;
    let child = Task { parent_id: plain.id.clone(), ..recurring("2090-01-31", "FREQ=DAILY") };
    let child = ann.create(child).await.expect("a creation");
    let grandchild = ann.make_subtask(&child, "Can").await;
    ann.complete_with_subtasks(&plain.id).await.expect("a completion");
    let completed = ann.get(&child.id).await.expect("it exists");
    assert_eq!((completed.state(), &completed.parent_id), (State::Completed, &plain.id));
    let next = ann.get(&completed.next_task_id).await.expect("there is a next occurrence");
    assert_eq!((&next.due_date[..], next.state(), &next.parent_id), ("2090-02-01", State::Open, &plain.id));
    assert_eq!(ann.get(&grandchild.id).await.expect("it exists").state(), State::Completed);
    assert_eq!(subtasks(&ann, &next.id).await[0].state(), State::Open);

    // With a parent that recurs too, the next occurrence of the subtask is below that of the parent.
    let parent = ann.make_recurring("2090-01-31", "FREQ=WEEKLY").await;
    let child = Task { parent_id: parent.id.clone(), ..recurring("2090-01-31", "FREQ=DAILY") };
    let child = ann.create(child).await.expect("a creation");
    let completed = ann.complete_with_subtasks(&parent.id).await.expect("a completion");
    let next_child = ann.get(&child.id).await.expect("it exists").next_task_id;
    let below: Vec<_> = subtasks(&ann, &completed.next_task_id).await.into_iter().map(|task| task.id).collect();
    assert_eq!(below, [next_child]);
}

async fn tasks_that_a_batch_moves_to_a_recurring_task_are_renewed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=WEEKLY").await;
    let can = ann.make("Can").await;
    ann.make_subtask(&can, "Handle").await;
    let hose = Task { parent_id: task.id.clone(), ..titled("Hose") };
    let to_task = under(&can.id, &task.id, Position::Last(true));
    let moved = taskey_proto::task::v1::batch_write_tasks_request::write::Write::Move(to_task);
    let tasks = ann.batch([moved, create(hose), complete(&task.id)]).await.expect("a batch");
    let renewed = subtasks(&ann, &tasks[2].next_task_id).await;
    assert_eq!(titles(&renewed), ["Can", "Hose"]);
    assert_eq!(titles(&subtasks(&ann, &renewed[0].id).await), ["Handle"]);
}

async fn more_than_a_hundred_tasks_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=WEEKLY").await;
    let subtask = |number: usize| create(Task { parent_id: task.id.clone(), ..titled(&format!("Plant {number}")) });
    ann.batch((0..99).map(subtask)).await.expect("a batch");
    let next = ann.advance(&task).await;
    assert_eq!(subtasks(&ann, &next.id).await.len(), 99);
    ann.make_subtask(&next, "One more").await;
    assert_refused!(ann.complete(&next.id, "").await, ResourceExhausted, "QUOTA_EXCEEDED");
    assert_eq!(ann.get(&next.id).await.expect("it exists"), next);
}
