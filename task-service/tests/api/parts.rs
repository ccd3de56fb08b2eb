//! Tasks that are a part of others.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, TaskList, move_task_request::Position};

use crate::{
    calls::{batch, create, into, under},
    support::{Service, User, titled},
};

on_each_database!(
    a_part_is_in_the_list_of_its_task,
    a_task_that_cannot_have_parts_is_refused,
    a_list_that_is_not_there_is_refused_whatever_the_parent,
    there_are_five_levels,
    deleted_parts_count_as_levels_so_that_they_can_come_back,
    a_task_does_not_become_a_part_of_itself,
    place_and_rank_are_not_changed_by_an_update,
    a_task_is_deleted_with_its_parts,
    a_task_comes_back_with_the_parts_that_were_deleted_with_it,
    a_part_whose_task_is_deleted_comes_back_at_the_top,
    a_part_whose_task_has_moved_comes_back_where_that_is,
    a_family_of_a_deleted_list_comes_back_in_the_default_list,
    a_large_family_goes_and_comes_back,
);

const LAST: Position = Position::Last(true);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A task at the top of the default list and below it one after the other, so many levels in all.
async fn chain(user: &User, levels: usize) -> Vec<Task> {
    let mut chain = vec![user.make("1").await];
    for level in 1..levels {
        let part = user.make_part(&chain[level - 1], &format!("{}", level + 1)).await;
        chain.push(part);
    }
    chain
}

/// Whether each of these tasks is deleted.
async fn deleted(user: &User, tasks: &[&Task]) -> Vec<bool> {
    let mut deleted = Vec::new();
    for task in tasks {
        deleted.push(user.get(&task.id).await.expect("it is there").delete_time.is_some());
    }
    deleted
}

/// A task with this list and this parent.
fn placed(list_id: &str, parent_id: &str) -> Task {
    Task { list_id: list_id.to_owned(), parent_id: parent_id.to_owned(), ..titled("Buy milk") }
}

async fn a_part_is_in_the_list_of_its_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    for list_id in ["", &list.id] {
        let part = ann.create(placed(list_id, &task.id)).await.expect("a part");
        assert_eq!((&part.list_id, &part.parent_id), (&list.id, &task.id));
        assert_eq!(ann.get(&part.id).await.expect("it is there"), part);
    }
    assert_eq!(ann.get(&task.id).await.expect("it is there"), task);
}

async fn a_task_that_cannot_have_parts_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    let (task, gone, hers) = (ann.make("A").await, ann.make("B").await, bob.make("Hers").await);
    ann.delete(&gone.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for (list_id, parent_id) in [
        ("", "1"),
        ("", &missing[..]),
        ("", &gone.id),
        ("", &hers.id),
        ("", &list.id),
        (&task.list_id, &missing),
        (&list.id, &task.id),
    ] {
        let outcome = ann.create(placed(list_id, parent_id)).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.parent_id");
    }
    assert_eq!(ann.list_all(0, false).await, [task.id]);
}

async fn a_list_that_is_not_there_is_refused_whatever_the_parent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (task, his) = (ann.make("A").await, bob.make_list("His").await);
    assert_refused!(ann.create(placed("1", "")).await, InvalidArgument, "VALIDATION_FAILED", "task.list_id");
    for list_id in [&service.clock.new_id().to_string(), &his.id, &bob.id.to_string(), &task.id] {
        for parent_id in ["", &task.id] {
            let outcome = ann.create(placed(list_id, parent_id)).await;
            assert_refused!(outcome, NotFound, "LIST_NOT_FOUND", "task.list_id");
        }
    }
}

async fn there_are_five_levels(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let levels = chain(&ann, 5).await;
    let outcome = ann.create(placed("", &levels[4].id)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.parent_id");

    let pair = chain(&ann, 2).await;
    for too_deep in &levels[3..] {
        let outcome = ann.move_task(under(&pair[0].id, &too_deep.id, LAST)).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    }
    // Beside one of them is as deep as that.
    let outcome = ann.move_task(crate::calls::to(&pair[0].id, crate::calls::after(&levels[4]))).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "after_id");
    ann.move_task(under(&pair[0].id, &levels[2].id, LAST)).await.expect("there is room");
    // Now that both are there, the chain has the same height along either way.
    let single = ann.make("single").await;
    let outcome = ann.move_task(under(&single.id, &pair[1].id, LAST)).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    ann.move_task(under(&single.id, &pair[0].id, LAST)).await.expect("there is room");
}

async fn deleted_parts_count_as_levels_so_that_they_can_come_back(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (levels, pair) = (chain(&ann, 4).await, chain(&ann, 2).await);
    ann.delete(&pair[1].id, "").await.expect("a deletion");
    let request = under(&pair[0].id, &levels[3].id, LAST);
    let outcome = ann.move_task(request.clone()).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "parent_id");
    service.hands.advance(31 * DAY);
    ann.move_task(request).await.expect("nothing can come back any more");
}

async fn a_task_does_not_become_a_part_of_itself(database: TestDatabase) {
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
        assert_eq!(ann.get(&task.id).await.expect("it is there"), *task);
    }
}

async fn place_and_rank_are_not_changed_by_an_update(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let (task, other) = (ann.make("A").await, ann.make_in(&list, "B").await);
    let sent = Task { id: task.id.clone(), rank: "5".to_owned(), ..placed(&list.id, &other.id) };
    for path in ["list_id", "parent_id", "rank"] {
        let outcome = ann.update(sent.clone(), &[path]).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    }
    for mask in [&[][..], &["*"]] {
        let updated = ann.update(sent.clone(), mask).await.expect("an update");
        assert_eq!((&updated.list_id, &updated.parent_id, &updated.rank), (&task.list_id, &task.parent_id, &task.rank));
    }
}

async fn a_task_is_deleted_with_its_parts(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let levels = chain(&ann, 4).await;
    let beside = ann.make_part(&levels[0], "beside").await;
    service.hands.advance(DAY);
    let gone = ann.delete(&levels[1].id, "").await.expect("a deletion");
    for part in &levels[2..] {
        let now = ann.get(&part.id).await.expect("it is there");
        let expected = Task {
            delete_time: gone.delete_time,
            purge_time: gone.purge_time,
            update_time: gone.update_time,
            etag: "\"2\"".to_owned(),
            ..part.clone()
        };
        assert_eq!(now, expected);
        assert_refused!(ann.complete(&part.id, "").await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.delete(&part.id, "").await, NotFound, "TASK_NOT_FOUND");
    }
    assert_eq!(ann.list_all(0, false).await, [&*beside.id, &*levels[0].id]);
}

async fn a_task_comes_back_with_the_parts_that_were_deleted_with_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("A").await;
    let (early, late) = (ann.make_part(&task, "early").await, ann.make_part(&task, "late").await);
    let (of_early, of_late) = (ann.make_part(&early, "1").await, ann.make_part(&late, "2").await);
    ann.delete(&early.id, "").await.expect("a deletion");
    service.hands.advance(DAY);
    ann.delete(&task.id, "").await.expect("a deletion");
    let all = [&task, &early, &of_early, &late, &of_late];
    assert_eq!(deleted(&ann, &all).await, [true; 5]);
    service.hands.advance(DAY);

    let back = ann.undelete(&task.id, "").await.expect("it is still there");

    assert_eq!(back, Task { update_time: back.update_time, etag: "\"3\"".to_owned(), ..task.clone() });
    assert_eq!(deleted(&ann, &all).await, [false, true, true, false, false]);
    assert_eq!(ann.parts(&task).await, ["late"]);
    assert_eq!(ann.parts(&late).await, ["2"]);
    let early = ann.undelete(&early.id, "").await.expect("it is still there");
    assert_eq!(early.parent_id, task.id);
    assert_eq!(deleted(&ann, &all).await, [false; 5]);
    assert_eq!(ann.parts(&task).await, ["early", "late"]);
}

async fn a_part_whose_task_is_deleted_comes_back_at_the_top(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    let part = ann.make_part(&task, "B").await;
    let below = ann.make_part(&part, "C").await;
    ann.make_in(&list, "D").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let back = ann.undelete(&part.id, "").await.expect("it is still there");
    assert_eq!((&back.parent_id[..], &back.list_id), ("", &list.id));
    assert_eq!(ann.top(&list.id).await, ["D", "B"]);
    assert_eq!(deleted(&ann, &[&task, &part, &below]).await, [true, false, false]);
    // What has come back by itself stays where it is.
    ann.undelete(&task.id, "").await.expect("it is still there");
    assert_eq!(ann.top(&list.id).await, ["A", "D", "B"]);
    assert_eq!(ann.get(&part.id).await.expect("it is there"), back);
}

async fn a_part_whose_task_has_moved_comes_back_where_that_is(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make("A").await;
    let part = ann.make_part(&task, "B").await;
    ann.delete(&part.id, "").await.expect("a deletion");
    ann.move_task(into(&task.id, &list.id, LAST)).await.expect("a move");
    let back = ann.undelete(&part.id, "").await.expect("it is still there");
    assert_eq!((back.parent_id, back.list_id), (task.id, list.id));
}

async fn a_family_of_a_deleted_list_comes_back_in_the_default_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let default = ann.id.to_string();
    let list: TaskList = ann.make_list("Errands").await;
    ann.make("first").await;
    let task = ann.make_in(&list, "A").await;
    let (early, part) = (ann.make_part(&task, "early").await, ann.make_part(&task, "B").await);
    let below = ann.make_part(&part, "C").await;
    ann.delete(&early.id, "").await.expect("a deletion");
    service.hands.advance(DAY);
    ann.delete_list(&list.id, "").await.expect("a deletion");
    assert_eq!(deleted(&ann, &[&task, &early, &part, &below]).await, [true; 4]);

    let back = ann.undelete(&task.id, "").await.expect("it is still there");

    assert_eq!((&back.list_id, &back.parent_id[..]), (&default, ""));
    assert_eq!(deleted(&ann, &[&task, &early, &part, &below]).await, [false, true, false, false]);
    assert_eq!(ann.top(&default).await, ["first", "A"]);
    assert_eq!(ann.parts(&task).await, ["B"]);
    for task in [&part, &below, &early] {
        assert_eq!(ann.get(&task.id).await.expect("it is there").list_id, default);
    }
    let early = ann.undelete(&early.id, "").await.expect("it is still there");
    assert_eq!((early.list_id, early.parent_id), (default, task.id));
}

async fn a_large_family_goes_and_comes_back(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make("A").await;
    for _ in 0..11 {
        let parts = (0..100).map(|_| create(placed("", &task.id)));
        ann.client.clone().batch_write_tasks(batch(parts)).await.expect("a batch");
    }
    let moved = ann.move_task(into(&task.id, &list.id, LAST)).await.expect("a move");
    assert_eq!(ann.ranked(false).await.iter().filter(|part| part.list_id == list.id).count(), 1101);
    ann.delete(&moved.id, "").await.expect("a deletion");
    assert_eq!(ann.ranked(false).await, []);
    ann.undelete(&moved.id, "").await.expect("it is still there");
    assert_eq!(ann.parts(&task).await.len(), 1100);
}
