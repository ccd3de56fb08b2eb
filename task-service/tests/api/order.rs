//! `MoveTask`, and the order of tasks.

use std::collections::HashMap;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{MoveTaskRequest, Task, move_task_request::Position};

use crate::{
    calls::{after, before, into, to, under},
    support::{Service, User},
};

on_each_database!(
    new_tasks_come_last,
    a_task_goes_to_the_place_that_is_named,
    a_move_changes_no_other_task,
    a_task_goes_into_another_list_with_its_parts,
    a_task_goes_under_another_and_out_to_the_top,
    beside_a_task_and_nothing_else_means_where_that_task_is,
    a_place_that_is_not_there_is_refused,
    a_move_checks_the_etag,
    a_deleted_or_missing_task_is_not_moved,
);

pub(crate) const FIRST: Position = Position::First(true);
pub(crate) const LAST: Position = Position::Last(true);

/// Makes tasks with these titles.
pub(crate) async fn make<const N: usize>(user: &User, titles: [&str; N]) -> [Task; N] {
    let mut tasks = Vec::new();
    for title in titles {
        tasks.push(user.make(title).await);
    }
    tasks.try_into().expect("as many as titles")
}

/// The titles at the top of the default list.
pub(crate) async fn titles(user: &User) -> String {
    user.top(&user.id.to_string()).await.concat()
}

async fn new_tasks_come_last(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [_, b, _] = make(&ann, ["A", "B", "C"]).await;
    ann.move_task(to(&b.id, LAST)).await.expect("a move");
    ann.make("D").await;
    assert_eq!(titles(&ann).await, "ACBD");
}

async fn a_task_goes_to_the_place_that_is_named(database: TestDatabase) {
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
        // To where it is already.
        (to(&c.id, after(&a)), "DACB"),
        (to(&c.id, before(&b)), "DACB"),
        (MoveTaskRequest { id: a.id.clone(), ..MoveTaskRequest::default() }, "DCBA"),
        (to(&d.id, Position::First(false)), "CBAD"),
        (to(&c.id, Position::Last(false)), "BADC"),
    ];
    for (request, expected) in steps {
        let moved = ann.move_task(request.clone()).await.expect("a move");
        assert_eq!(titles(&ann).await, expected, "{request:?}");
        assert_eq!(ann.get(&moved.id).await.expect("it is there"), moved);
    }
}

async fn a_move_changes_no_other_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let tasks = make(&ann, ["A", "B", "C", "D"]).await;
    let part = ann.make_part(&tasks[0], "A1").await;
    for position in [FIRST, LAST, before(&tasks[2]), after(&tasks[3])] {
        let mut known: HashMap<_, _> =
            ann.ranked(false).await.into_iter().map(|task| (task.id.clone(), task)).collect();
        let moved = ann.move_task(to(&tasks[0].id, position)).await.expect("a move");
        let old = known.insert(moved.id.clone(), moved.clone()).expect("it was there");
        assert_ne!((&old.rank, &old.etag), (&moved.rank, &moved.etag));
        let now: HashMap<_, _> = ann.ranked(false).await.into_iter().map(|task| (task.id.clone(), task)).collect();
        assert_eq!(now, known);
    }
    assert_eq!(ann.get(&part.id).await.expect("it is there"), part);
}

async fn a_task_goes_into_another_list_with_its_parts(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, b] = make(&ann, ["A", "B"]).await;
    let (c, d) = (ann.make_in(&list, "C").await, ann.make_in(&list, "D").await);
    let part = ann.make_part(&a, "A1").await;
    let below = ann.make_part(&part, "A11").await;
    let gone = ann.make_part(&a, "A2").await;
    ann.delete(&gone.id, "").await.expect("a deletion");

    let moved = ann.move_task(into(&a.id, &list.id, before(&d))).await.expect("a move");

    assert_eq!((&moved.list_id, &moved.parent_id[..]), (&list.id, ""));
    assert_eq!((ann.top(&list.id).await.concat(), titles(&ann).await), ("CAD".to_owned(), "B".to_owned()));
    for (part, parent) in [(&part, &a), (&below, &part), (&gone, &a)] {
        let now = ann.get(&part.id).await.expect("it is there");
        assert_eq!((&now.list_id, &now.parent_id, &now.rank), (&list.id, &parent.id, &part.rank));
    }
    // Under a task of another list is into that list.
    let moved = ann.move_task(under(&moved.id, &b.id, LAST)).await.expect("a move");
    assert_eq!((moved.list_id, moved.parent_id), (ann.id.to_string(), b.id));
    assert_eq!(ann.get(&below.id).await.expect("it is there").list_id, ann.id.to_string());
    assert_eq!(ann.get(&c.id).await.expect("it is there"), c);
}

async fn a_task_goes_under_another_and_out_to_the_top(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let (a, b, c) = (ann.make_in(&list, "A").await, ann.make_in(&list, "B").await, ann.make_in(&list, "C").await);
    for (task, position, expected) in
        [(&b, LAST, "B"), (&c, before(&b), "CB"), (&b, FIRST, "BC"), (&b, after(&c), "CB")]
    {
        let moved = ann.move_task(under(&task.id, &a.id, position)).await.expect("a move");
        assert_eq!(moved.parent_id, a.id);
        assert_eq!(ann.parts(&a).await.concat(), expected);
    }
    assert_eq!(ann.top(&list.id).await.concat(), "A");
    // Whoever names no place means the top of the list that the task is in.
    let moved = ann.move_task(to(&b.id, FIRST)).await.expect("a move");
    assert_eq!((&moved.parent_id[..], &moved.list_id), ("", &list.id));
    ann.move_task(into(&c.id, &list.id, after(&b))).await.expect("a move");
    assert_eq!(ann.top(&list.id).await.concat(), "BCA");
    assert_eq!(ann.parts(&a).await, [""; 0]);
}

async fn beside_a_task_and_nothing_else_means_where_that_task_is(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, b] = make(&ann, ["A", "B"]).await;
    let part = ann.make_part(&a, "P").await;
    let other = ann.make_in(&list, "O").await;
    let moved = ann.move_task(to(&b.id, after(&part))).await.expect("a move");
    assert_eq!(moved.parent_id, a.id);
    assert_eq!(ann.parts(&a).await.concat(), "PB");
    ann.move_task(to(&b.id, before(&other))).await.expect("a move");
    assert_eq!(ann.top(&list.id).await.concat(), "BO");
}

async fn a_place_that_is_not_there_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    let (hers, his_list) = (bob.make("Hers").await, bob.make_list("His").await);
    let [a, b, gone] = make(&ann, ["A", "B", "C"]).await;
    let (part, other) = (ann.make_part(&a, "A1").await, ann.make_in(&list, "O").await);
    let gone = ann.delete(&gone.id, "").await.expect("a deletion");
    let missing = Task { id: service.clock.new_id().to_string(), ..Task::default() };

    for (request, field) in [
        (to("1", LAST), "id"),
        (under(&b.id, "1", LAST), "parent_id"),
        (into(&b.id, "1", LAST), "list_id"),
        (to(&b.id, Position::BeforeId(String::new())), "before_id"),
        (to(&b.id, Position::AfterId("1".to_owned())), "after_id"),
        (under(&b.id, &missing.id, LAST), "parent_id"),
        (under(&b.id, &gone.id, LAST), "parent_id"),
        (under(&b.id, &hers.id, LAST), "parent_id"),
        (under(&b.id, &b.id, LAST), "parent_id"),
        (under(&a.id, &part.id, LAST), "parent_id"),
        (to(&a.id, after(&part)), "after_id"),
        (MoveTaskRequest { list_id: list.id.clone(), ..under(&b.id, &a.id, LAST) }, "parent_id"),
        (to(&b.id, before(&b)), "before_id"),
        (to(&b.id, after(&b)), "after_id"),
        (to(&b.id, before(&missing)), "before_id"),
        (to(&b.id, after(&gone)), "after_id"),
        (to(&b.id, before(&hers)), "before_id"),
        (into(&b.id, &list.id, after(&a)), "after_id"),
        (into(&b.id, &b.list_id, before(&part)), "before_id"),
        (under(&b.id, &a.id, before(&other)), "before_id"),
        (under(&b.id, &a.id, after(&a)), "after_id"),
    ] {
        let outcome = ann.move_task(request.clone()).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", field);
    }
    for list_id in [&missing.id, &his_list.id, &a.id] {
        for parent_id in ["", &a.id] {
            let request = MoveTaskRequest { list_id: list_id.clone(), ..under(&b.id, parent_id, LAST) };
            assert_refused!(ann.move_task(request).await, NotFound, "LIST_NOT_FOUND", "list_id");
        }
    }
    assert_eq!(ann.get(&b.id).await.expect("it is there"), b);
}

async fn a_move_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b] = make(&ann, ["A", "B"]).await;
    let with_etag = |etag: &str| MoveTaskRequest { etag: etag.to_owned(), ..to(&b.id, before(&a)) };
    assert_refused!(ann.move_task(with_etag("\"2\"")).await, Aborted, "ETAG_MISMATCH");
    let moved = ann.move_task(with_etag(&b.etag)).await.expect("a move");
    assert_refused!(ann.move_task(with_etag(&b.etag)).await, Aborted, "ETAG_MISMATCH");
    ann.move_task(with_etag(&moved.etag)).await.expect("a move");
}

async fn a_deleted_or_missing_task_is_not_moved(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let [a, b] = make(&ann, ["A", "B"]).await;
    ann.delete(&b.id, "").await.expect("a deletion");
    let (missing, hers) = (service.clock.new_id().to_string(), bob.make("Hers").await);
    for id in [&b.id, &missing, &hers.id] {
        for position in [FIRST, LAST, before(&a), after(&a)] {
            assert_refused!(ann.move_task(to(id, position)).await, NotFound, "TASK_NOT_FOUND");
        }
    }
}
