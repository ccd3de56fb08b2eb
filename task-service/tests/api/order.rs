//! `MoveTask` and the order of tasks.

use std::collections::HashMap;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{MoveTaskRequest, Task, move_task_request::Position};

use crate::{
    calls::{after, before, into, to, under},
    support::{Service, User, with_revision},
};

on_each_database!(
    new_task_is_last,
    task_moves_to_the_requested_position,
    move_changes_no_other_task,
    task_moves_to_another_list_with_its_subtasks,
    task_moves_under_another_and_back_to_the_top_level,
    before_or_after_alone_implies_the_list_and_parent_of_the_anchor,
    invalid_move_targets_are_refused,
    move_checks_the_etag,
    deleted_or_missing_task_cannot_be_moved,
);

pub(crate) const FIRST: Position = Position::First(true);
pub(crate) const LAST: Position = Position::Last(true);

/// Creates tasks with these titles, in order.
pub(crate) async fn make<const N: usize>(user: &User, titles: [&str; N]) -> [Task; N] {
    let mut tasks = Vec::new();
    for title in titles {
        tasks.push(user.make(title).await);
    }
    tasks.try_into().expect("one task per title")
}

/// Returns the concatenated titles of the top-level tasks of the default list.
pub(crate) async fn titles(user: &User) -> String {
    user.top_level_titles(&user.id.to_string()).await.concat()
}

async fn new_task_is_last(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [_, b, _] = make(&ann, ["A", "B", "C"]).await;
    ann.move_task(to(&b.id, LAST)).await.expect("a move");
    ann.make("D").await;
    assert_eq!(titles(&ann).await, "ACBD");
}

async fn task_moves_to_the_requested_position(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b, c, d] = make(&ann, ["A", "B", "C", "D"]).await;
    let steps = [
        (to(&d.id, FIRST), "DABC"),
        (to(&d.id, FIRST), "DABC"),
        (to(&a.id, LAST), "DBCA"),
        (to(&b.id, before(&d)), "BDCA"),
        (to(&b.id, after(&c)), "DCBA"),
        (to(&b.id, after(&a)), "DCAB"),
        (to(&c.id, before(&b)), "DACB"),
        // To the position that it already has.
        (to(&c.id, after(&a)), "DACB"),
        (to(&c.id, before(&b)), "DACB"),
        (MoveTaskRequest { id: a.id.clone(), ..MoveTaskRequest::default() }, "DCBA"),
        (to(&d.id, Position::First(false)), "CBAD"),
        (to(&c.id, Position::Last(false)), "BADC"),
    ];
    for (request, expected) in steps {
        let moved = ann.move_task(request.clone()).await.expect("a move");
        assert_eq!(titles(&ann).await, expected, "{request:?}");
        assert_eq!(ann.get(&moved.id).await.expect("it exists"), moved);
    }
}

async fn move_changes_no_other_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let tasks = make(&ann, ["A", "B", "C", "D"]).await;
    let subtask = ann.make_subtask(&tasks[0], "A1").await;
    for position in [FIRST, LAST, before(&tasks[2]), after(&tasks[3])] {
        let mut expected: HashMap<_, _> =
            ann.tasks_by_rank(false).await.into_iter().map(|task| (task.id.clone(), task)).collect();
        let moved = ann.move_task(to(&tasks[0].id, position)).await.expect("a move");
        let old = expected.insert(moved.id.clone(), moved.clone()).expect("the task existed");
        assert_ne!((&old.rank, &old.etag), (&moved.rank, &moved.etag));
        let now: HashMap<_, _> =
            ann.tasks_by_rank(false).await.into_iter().map(|task| (task.id.clone(), task)).collect();
        assert_eq!(now, expected);
    }
    assert_eq!(ann.get(&subtask.id).await.expect("it exists"), subtask);
}

async fn task_moves_to_another_list_with_its_subtasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, b] = make(&ann, ["A", "B"]).await;
    let (c, d) = (ann.make_in(&list, "C").await, ann.make_in(&list, "D").await);
    let subtask = ann.make_subtask(&a, "A1").await;
    let below = ann.make_subtask(&subtask, "A11").await;
    let deleted = ann.make_subtask(&a, "A2").await;
    ann.delete(&deleted.id, "").await.expect("a deletion");

    let moved = ann.move_task(into(&a.id, &list.id, before(&d))).await.expect("a move");

    assert_eq!((&moved.list_id, &moved.parent_id[..]), (&list.id, ""));
    assert_eq!((ann.top_level_titles(&list.id).await.concat(), titles(&ann).await), ("CAD".to_owned(), "B".to_owned()));
    for (subtask, parent) in [(&subtask, &a), (&below, &subtask), (&deleted, &a)] {
        let now = ann.get(&subtask.id).await.expect("it exists");
        assert_eq!((&now.list_id, &now.parent_id, &now.rank), (&list.id, &parent.id, &subtask.rank));
    }
    // A move under a task of another list also moves to that list.
    let moved = ann.move_task(under(&moved.id, &b.id, LAST)).await.expect("a move");
    assert_eq!((moved.list_id, moved.parent_id), (ann.id.to_string(), b.id));
    assert_eq!(ann.get(&below.id).await.expect("it exists").list_id, ann.id.to_string());
    assert_eq!(ann.get(&c.id).await.expect("it exists"), c);
}

async fn task_moves_under_another_and_back_to_the_top_level(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let (a, b, c) = (ann.make_in(&list, "A").await, ann.make_in(&list, "B").await, ann.make_in(&list, "C").await);
    for (task, position, expected) in
        [(&b, LAST, "B"), (&c, before(&b), "CB"), (&b, FIRST, "BC"), (&b, after(&c), "CB")]
    {
        let moved = ann.move_task(under(&task.id, &a.id, position)).await.expect("a move");
        assert_eq!(moved.parent_id, a.id);
        assert_eq!(ann.subtask_titles(&a).await.concat(), expected);
    }
    assert_eq!(ann.top_level_titles(&list.id).await.concat(), "A");
    // Without a list and a parent, the task moves to the top level of its list.
    let moved = ann.move_task(to(&b.id, FIRST)).await.expect("a move");
    assert_eq!((&moved.parent_id[..], &moved.list_id), ("", &list.id));
    ann.move_task(into(&c.id, &list.id, after(&b))).await.expect("a move");
    assert_eq!(ann.top_level_titles(&list.id).await.concat(), "BCA");
    assert_eq!(ann.subtask_titles(&a).await, [""; 0]);
}

async fn before_or_after_alone_implies_the_list_and_parent_of_the_anchor(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, b] = make(&ann, ["A", "B"]).await;
    let subtask = ann.make_subtask(&a, "P").await;
    let other = ann.make_in(&list, "O").await;
    let moved = ann.move_task(to(&b.id, after(&subtask))).await.expect("a move");
    assert_eq!(moved.parent_id, a.id);
    assert_eq!(ann.subtask_titles(&a).await.concat(), "PB");
    ann.move_task(to(&b.id, before(&other))).await.expect("a move");
    assert_eq!(ann.top_level_titles(&list.id).await.concat(), "BO");
}

async fn invalid_move_targets_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    let (task_of_bob, list_of_bob) = (bob.make("Hers").await, bob.make_list("His").await);
    let [a, b, deleted] = make(&ann, ["A", "B", "C"]).await;
    let (subtask, other) = (ann.make_subtask(&a, "A1").await, ann.make_in(&list, "O").await);
    let deleted = ann.delete(&deleted.id, "").await.expect("a deletion");
    let missing = Task { id: service.clock.new_id().to_string(), ..Task::default() };

    for (request, field) in [
        (to("1", LAST), "id"),
        (under(&b.id, "1", LAST), "parent_id"),
        (into(&b.id, "1", LAST), "list_id"),
        (to(&b.id, Position::BeforeId(String::new())), "before_id"),
        (to(&b.id, Position::AfterId("1".to_owned())), "after_id"),
        (under(&b.id, &missing.id, LAST), "parent_id"),
        (under(&b.id, &deleted.id, LAST), "parent_id"),
        (under(&b.id, &task_of_bob.id, LAST), "parent_id"),
        (under(&b.id, &b.id, LAST), "parent_id"),
        (under(&a.id, &subtask.id, LAST), "parent_id"),
        (to(&a.id, after(&subtask)), "after_id"),
        (MoveTaskRequest { list_id: list.id.clone(), ..under(&b.id, &a.id, LAST) }, "parent_id"),
        (to(&b.id, before(&b)), "before_id"),
        (to(&b.id, after(&b)), "after_id"),
        (to(&b.id, before(&missing)), "before_id"),
        (to(&b.id, after(&deleted)), "after_id"),
        (to(&b.id, before(&task_of_bob)), "before_id"),
        (into(&b.id, &list.id, after(&a)), "after_id"),
        (into(&b.id, &b.list_id, before(&subtask)), "before_id"),
        (under(&b.id, &a.id, before(&other)), "before_id"),
        (under(&b.id, &a.id, after(&a)), "after_id"),
    ] {
        let outcome = ann.move_task(request.clone()).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    for list_id in [&missing.id, &list_of_bob.id, &a.id] {
        for parent_id in ["", &a.id] {
            let request = MoveTaskRequest { list_id: list_id.clone(), ..under(&b.id, parent_id, LAST) };
            assert_refused!(ann.move_task(request).await, NotFound, "LIST_NOT_FOUND", "list_id");
        }
    }
    assert_eq!(ann.get(&b.id).await.expect("it exists"), b);
}

async fn move_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b] = make(&ann, ["A", "B"]).await;
    let with_etag = |etag: &str| MoveTaskRequest { etag: etag.to_owned(), ..to(&b.id, before(&a)) };
    assert_refused!(ann.move_task(with_etag(&with_revision(&b.etag, 2))).await, Aborted, "ETAG_MISMATCH");
    let moved = ann.move_task(with_etag(&b.etag)).await.expect("a move");
    assert_refused!(ann.move_task(with_etag(&b.etag)).await, Aborted, "ETAG_MISMATCH");
    ann.move_task(with_etag(&moved.etag)).await.expect("a move");
}

async fn deleted_or_missing_task_cannot_be_moved(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let [a, b] = make(&ann, ["A", "B"]).await;
    ann.delete(&b.id, "").await.expect("a deletion");
    let (missing, task_of_bob) = (service.clock.new_id().to_string(), bob.make("Hers").await);
    for id in [&b.id, &missing, &task_of_bob.id] {
        for position in [FIRST, LAST, before(&a), after(&a)] {
            assert_refused!(ann.move_task(to(id, position)).await, NotFound, "TASK_NOT_FOUND");
        }
    }
}
