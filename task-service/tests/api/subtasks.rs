//! Subtasks.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, TaskList, move_task_request::Position};

use crate::{
    calls::{batch, create, into, under},
    follow::LocalCopy,
    support::{Service, User, titled, with_revision},
};

on_each_database!(
    subtask_is_in_the_list_of_its_parent,
    invalid_parents_are_refused,
    unknown_list_is_refused_with_or_without_a_parent,
    tasks_nest_at_most_five_levels_deep,
    deleted_subtasks_count_as_levels_until_they_are_purged,
    task_cannot_become_its_own_subtask,
    update_does_not_change_list_parent_or_rank,
    deleting_a_task_deletes_its_subtasks,
    undelete_restores_the_subtasks_deleted_with_the_task,
    subtask_of_a_deleted_task_is_restored_at_the_top_level,
    subtask_of_a_moved_task_is_restored_under_it,
    task_tree_of_a_deleted_list_is_restored_in_the_default_list,
    large_task_tree_is_deleted_and_restored,
);

const LAST: Position = Position::Last(true);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Creates a task in the default list and a chain of nested subtasks, `levels` tasks in total.
async fn chain(user: &User, levels: usize) -> Vec<Task> {
    let mut chain = vec![user.make("1").await];
    for level in 1..levels {
        let subtask = user.make_subtask(&chain[level - 1], &format!("{}", level + 1)).await;
        chain.push(subtask);
    }
    chain
}

/// Reports for each task whether it is deleted.
async fn deleted(user: &User, tasks: &[&Task]) -> Vec<bool> {
    let mut deleted = Vec::new();
    for task in tasks {
        deleted.push(user.get(&task.id).await.expect("it exists").delete_time.is_some());
    }
    deleted
}

/// Returns a task with this list and parent.
fn task_in(list_id: &str, parent_id: &str) -> Task {
    Task { list_id: list_id.to_owned(), parent_id: parent_id.to_owned(), ..titled("Buy milk") }
}

async fn subtask_is_in_the_list_of_its_parent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    for list_id in ["", &list.id] {
        let subtask = ann.create(task_in(list_id, &task.id)).await.expect("the subtask is created");
        assert_eq!((&subtask.list_id, &subtask.parent_id), (&list.id, &task.id));
        assert_eq!(ann.get(&subtask.id).await.expect("it exists"), subtask);
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn invalid_parents_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    let (task, deleted_task, task_of_bob) = (ann.make("A").await, ann.make("B").await, bob.make("Hers").await);
    ann.delete(&deleted_task.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for (list_id, parent_id) in [
        ("", "1"),
        ("", &missing[..]),
        ("", &deleted_task.id),
        ("", &task_of_bob.id),
        ("", &list.id),
        (&task.list_id, &missing),
        (&list.id, &task.id),
    ] {
        let outcome = ann.create(task_in(list_id, parent_id)).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.parent_id");
    }
    assert_eq!(ann.list_all(0, false).await, [task.id]);
}

async fn unknown_list_is_refused_with_or_without_a_parent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (task, list_of_bob) = (ann.make("A").await, bob.make_list("His").await);
    assert_refused!(ann.create(task_in("1", "")).await, InvalidArgument, "VALIDATION_FAILED", "task.list_id");
    for list_id in [&service.clock.new_id().to_string(), &list_of_bob.id, &bob.id.to_string(), &task.id] {
        for parent_id in ["", &task.id] {
            let outcome = ann.create(task_in(list_id, parent_id)).await;
            assert_refused!(outcome, NotFound, "LIST_NOT_FOUND", "task.list_id");
        }
    }
}

async fn tasks_nest_at_most_five_levels_deep(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let levels = chain(&ann, 5).await;
    let outcome = ann.create(task_in("", &levels[4].id)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.parent_id");

    let pair = chain(&ann, 2).await;
    for too_deep in &levels[3..] {
        let outcome = ann.move_task(under(&pair[0].id, &too_deep.id, LAST)).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    }
    // Next to the deepest task is on the same level as that task.
    let outcome = ann.move_task(crate::calls::to(&pair[0].id, crate::calls::after(&levels[4]))).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "after_id");
    ann.move_task(under(&pair[0].id, &levels[2].id, LAST)).await.expect("five levels");
    // The subtree under levels[2] now has two branches of equal depth.
    let single = ann.make("single").await;
    let outcome = ann.move_task(under(&single.id, &pair[1].id, LAST)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    ann.move_task(under(&single.id, &pair[0].id, LAST)).await.expect("five levels");
}

async fn deleted_subtasks_count_as_levels_until_they_are_purged(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (levels, pair) = (chain(&ann, 4).await, chain(&ann, 2).await);
    ann.delete(&pair[1].id, "").await.expect("a deletion");
    let request = under(&pair[0].id, &levels[3].id, LAST);
    let outcome = ann.move_task(request.clone()).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    service.manual_clock.advance(31 * DAY);
    ann.move_task(request).await.expect("the deleted subtask is past its purge time");
}

async fn task_cannot_become_its_own_subtask(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let levels = chain(&ann, 3).await;
    for (index, task) in levels.iter().enumerate() {
        for below in &levels[index..] {
            let outcome = ann.move_task(under(&task.id, &below.id, LAST)).await;
            assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
        }
    }
    for task in &levels {
        assert_eq!(ann.get(&task.id).await.expect("it exists"), *task);
    }
}

async fn update_does_not_change_list_parent_or_rank(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let (task, other) = (ann.make("A").await, ann.make_in(&list, "B").await);
    let sent = Task { id: task.id.clone(), rank: "5".to_owned(), ..task_in(&list.id, &other.id) };
    for path in ["list_id", "parent_id", "rank"] {
        let outcome = ann.update(sent.clone(), &[path]).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    }
    for mask in [&[][..], &["*"]] {
        let updated = ann.update(sent.clone(), mask).await.expect("an update");
        assert_eq!((&updated.list_id, &updated.parent_id, &updated.rank), (&task.list_id, &task.parent_id, &task.rank));
    }
}

async fn deleting_a_task_deletes_its_subtasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let levels = chain(&ann, 4).await;
    let other_subtask = ann.make_subtask(&levels[0], "other").await;
    service.manual_clock.advance(DAY);
    let deleted_task = ann.delete(&levels[1].id, "").await.expect("a deletion");
    for subtask in &levels[2..] {
        let now = ann.get(&subtask.id).await.expect("it exists");
        let expected = Task {
            delete_time: deleted_task.delete_time,
            purge_time: deleted_task.purge_time,
            update_time: deleted_task.update_time,
            etag: with_revision(&subtask.etag, 2),
            ..subtask.clone()
        };
        assert_eq!(now, expected);
        assert_refused!(ann.complete(&subtask.id, "").await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.delete(&subtask.id, "").await, NotFound, "TASK_NOT_FOUND");
    }
    assert_eq!(ann.list_all(0, false).await, [&*other_subtask.id, &*levels[0].id]);
}

async fn undelete_restores_the_subtasks_deleted_with_the_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let (early, late) = (ann.make_subtask(&task, "early").await, ann.make_subtask(&task, "late").await);
    let (subtask_of_early, subtask_of_late) = (ann.make_subtask(&early, "1").await, ann.make_subtask(&late, "2").await);
    ann.delete(&early.id, "").await.expect("a deletion");
    service.manual_clock.advance(DAY);
    ann.delete(&task.id, "").await.expect("a deletion");
    let all = [&task, &early, &subtask_of_early, &late, &subtask_of_late];
    assert_eq!(deleted(&ann, &all).await, [true; 5]);
    service.manual_clock.advance(DAY);

    let restored = ann.undelete(&task.id, "").await.expect("an undeletion");

    assert_eq!(
        restored,
        Task { update_time: restored.update_time, etag: with_revision(&task.etag, 3), ..task.clone() }
    );
    assert_eq!(deleted(&ann, &all).await, [false, true, true, false, false]);
    assert_eq!(ann.subtask_titles(&task).await, ["late"]);
    assert_eq!(ann.subtask_titles(&late).await, ["2"]);
    let early = ann.undelete(&early.id, "").await.expect("an undeletion");
    assert_eq!(early.parent_id, task.id);
    assert_eq!(deleted(&ann, &all).await, [false; 5]);
    assert_eq!(ann.subtask_titles(&task).await, ["early", "late"]);
}

async fn subtask_of_a_deleted_task_is_restored_at_the_top_level(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    let subtask = ann.make_subtask(&task, "B").await;
    let below = ann.make_subtask(&subtask, "C").await;
    ann.make_in(&list, "D").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let restored = ann.undelete(&subtask.id, "").await.expect("an undeletion");
    assert_eq!((&restored.parent_id[..], &restored.list_id), ("", &list.id));
    assert_eq!(ann.top_level_titles(&list.id).await, ["D", "B"]);
    assert_eq!(deleted(&ann, &[&task, &subtask, &below]).await, [true, false, false]);
    // A subtask that was restored on its own keeps its position.
    ann.undelete(&task.id, "").await.expect("an undeletion");
    assert_eq!(ann.top_level_titles(&list.id).await, ["A", "D", "B"]);
    assert_eq!(ann.get(&subtask.id).await.expect("it exists"), restored);
}

async fn subtask_of_a_moved_task_is_restored_under_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make("A").await;
    let subtask = ann.make_subtask(&task, "B").await;
    ann.delete(&subtask.id, "").await.expect("a deletion");
    ann.move_task(into(&task.id, &list.id, LAST)).await.expect("a move");
    let restored = ann.undelete(&subtask.id, "").await.expect("an undeletion");
    assert_eq!((restored.parent_id, restored.list_id), (task.id, list.id));
}

async fn task_tree_of_a_deleted_list_is_restored_in_the_default_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let default = ann.id.to_string();
    let list: TaskList = ann.make_list("Errands").await;
    ann.make("first").await;
    let task = ann.make_in(&list, "A").await;
    let (early, subtask) = (ann.make_subtask(&task, "early").await, ann.make_subtask(&task, "B").await);
    let below = ann.make_subtask(&subtask, "C").await;
    ann.delete(&early.id, "").await.expect("a deletion");
    service.manual_clock.advance(DAY);
    ann.delete_list(&list.id, "").await.expect("a deletion");
    assert_eq!(deleted(&ann, &[&task, &early, &subtask, &below]).await, [true; 4]);

    let restored = ann.undelete(&task.id, "").await.expect("an undeletion");

    assert_eq!((&restored.list_id, &restored.parent_id[..]), (&default, ""));
    assert_eq!(deleted(&ann, &[&task, &early, &subtask, &below]).await, [false, true, false, false]);
    assert_eq!(ann.top_level_titles(&default).await, ["first", "A"]);
    assert_eq!(ann.subtask_titles(&task).await, ["B"]);
    for task in [&subtask, &below, &early] {
        assert_eq!(ann.get(&task.id).await.expect("it exists").list_id, default);
    }
    let early = ann.undelete(&early.id, "").await.expect("an undeletion");
    assert_eq!((early.list_id, early.parent_id), (default, task.id));
}

async fn large_task_tree_is_deleted_and_restored(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make("A").await;
    for _ in 0..11 {
        let creations = (0..100).map(|_| create(Task { notes: "Oat milk".to_owned(), ..task_in("", &task.id) }));
        ann.client.clone().batch_write_tasks(batch(creations)).await.expect("a batch");
    }
    let created = ann.tasks_by_rank(false).await;
    let mut copy = LocalCopy::default();
    copy.pull(&ann, 500).await.expect("changes");
    let moved = ann.move_task(into(&task.id, &list.id, LAST)).await.expect("a move");
    assert_eq!(ann.tasks_by_rank(false).await.iter().filter(|subtask| subtask.list_id == list.id).count(), 1101);
    ann.delete(&moved.id, "").await.expect("a deletion");
    assert_eq!(ann.tasks_by_rank(false).await, []);
    ann.undelete(&moved.id, "").await.expect("an undeletion");
    assert_eq!(ann.subtask_titles(&task).await.len(), 1100);

    copy.pull(&ann, 500).await.expect("every change is in the feed");
    let restored = ann.all_tasks().await;
    assert_eq!(copy.tasks, restored);
    for subtask in created.iter().filter(|created| created.id != task.id) {
        let expected = Task {
            list_id: list.id.clone(),
            etag: with_revision(&subtask.etag, 4),
            update_time: restored[&task.id].update_time,
            ..subtask.clone()
        };
        assert_eq!(restored[&subtask.id], expected, "only the location and the version differ");
    }
}
