//! Many moves, one after the other and at once.

use std::collections::HashSet;

use futures::future::join_all;
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::task::v1::{Task, batch_write_tasks_request::write::Write as Kind};

use crate::{
    calls::{after, before, into, to, under},
    order::{FIRST, LAST, make, titles},
    support::Service,
};

on_each_database!(
    a_deleted_task_keeps_its_place_among_those_that_move,
    two_hundred_random_moves_keep_the_order,
    concurrent_moves_never_collide,
    a_task_moved_beside_one_that_the_same_batch_has_moved_is_beside_it,
    a_gap_that_takes_no_more_tasks_says_so,
);

async fn a_deleted_task_keeps_its_place_among_those_that_move(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let tasks = make(&ann, ["A", "B", "C", "D", "E"]).await;
    let [a, between @ .., e] = &tasks;
    for task in between {
        ann.delete(&task.id, "").await.expect("a deletion");
    }
    // Between A and E there is room on either side of those that are deleted.
    let (x, y) = (ann.make("X").await, ann.make("Y").await);
    ann.move_task(to(&x.id, after(a))).await.expect("a move");
    ann.move_task(to(&y.id, before(e))).await.expect("a move");
    for task in between {
        ann.undelete(&task.id, "").await.expect("it is still there");
    }
    assert_eq!(titles(&ann).await, "AXBCDYE");
}

async fn two_hundred_random_moves_keep_the_order(database: TestDatabase) {
    const TASKS: usize = 8;
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let lists = [ann.id.to_string(), list.id];
    let mut order: [Vec<Task>; 2] = [make(&ann, ["A", "B", "C", "D", "E", "F", "G", "H"]).await.into(), Vec::new()];
    // A generator that is the same each time, so that a failure comes again.
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    for _ in 0..200 {
        let (from, target) = (random(2), random(2));
        if order[from].is_empty() {
            continue;
        }
        let index = random(order[from].len());
        let task = order[from].remove(index);
        let others = &order[target];
        let at = random(others.len() + 1);
        let position = match (others.get(at), at.checked_sub(1).map(|at| &others[at])) {
            (_, None) if random(2) == 0 => FIRST,
            (None, _) if random(2) == 0 => LAST,
            (Some(next), None) => before(next),
            (Some(next), Some(_)) if random(2) == 0 => before(next),
            (_, Some(last)) => after(last),
            (None, None) => LAST,
        };
        let moved = ann.move_task(into(&task.id, &lists[target], position)).await.expect("a move");
        order[target].insert(at, moved);
        for (list, order) in lists.iter().zip(&order) {
            let expected: Vec<_> = order.iter().map(|task| task.title.clone()).collect();
            assert_eq!(ann.top(list).await, expected);
        }
    }
    let mut known = order.concat();
    known.sort_by(|one, other| one.id.cmp(&other.id));
    let mut now = ann.ranked(false).await;
    now.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(now, known);
    assert_eq!(now.len(), TASKS);
}

async fn concurrent_moves_never_collide(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b] = make(&ann, ["A", "B"]).await;
    let numbers: Vec<_> = (0..40).map(|index| index.to_string()).collect();
    let others = join_all(numbers.iter().map(|title| ann.make(title))).await;
    let moves = others.iter().enumerate().map(|(index, task)| {
        let position = [FIRST, LAST, before(&b), after(&a)][index % 4].clone();
        let ann = &ann;
        async move { ann.move_task(to(&task.id, position)).await.expect("a move") }
    });
    let moved = join_all(moves).await;

    let now = ann.ranked(false).await;
    let ranks: HashSet<_> = now.iter().map(|task| &task.rank).collect();
    assert_eq!((now.len(), ranks.len()), (42, 42));
    for task in moved {
        assert_eq!(now.iter().find(|now| now.id == task.id), Some(&task));
    }
    let place = |id: &str| now.iter().position(|task| task.id == id).expect("it is there");
    let (from, to) = (place(&a.id), place(&b.id));
    for (index, task) in others.iter().enumerate() {
        let at = place(&task.id);
        assert!(
            [at < from, at > to, from < at && at < to, from < at && at < to][index % 4],
            "{index} {at} {from} {to}"
        );
    }
}

async fn a_task_moved_beside_one_that_the_same_batch_has_moved_is_beside_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, x] = make(&ann, ["A", "X"]).await;
    let (first, second) = (ann.make_in(&list, "1").await, ann.make_in(&list, "2").await);
    let moves = [into(&a.id, &list.id, LAST), into(&x.id, &list.id, before(&a))];
    ann.batch(moves.map(Kind::Move)).await.expect("a batch");
    assert_eq!(ann.top(&list.id).await.concat(), "12XA");

    // The parts of a task go with it, and others beside them.
    for title in ["a", "b"] {
        ann.make_part(&first, title).await;
    }
    let last = ann.make_part(&first, "c").await;
    let moves = [into(&first.id, &ann.id.to_string(), LAST), under(&second.id, &first.id, before(&last))];
    ann.batch(moves.map(Kind::Move)).await.expect("a batch");
    assert_eq!(ann.parts(&first).await.concat(), "ab2c");
}

async fn a_gap_that_takes_no_more_tasks_says_so(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b, c] = make(&ann, ["A", "B", "C"]).await;
    // Each of the two goes between the other and A, so that the gap gets narrower each time.
    let pair = || [to(&b.id, after(&a)), to(&c.id, after(&a))];
    let mut moves = 0;
    let outcome = loop {
        let outcome = ann.batch(pair().into_iter().cycle().take(100).map(Kind::Move)).await;
        if outcome.is_err() {
            break outcome;
        }
        moves += 100;
    };
    assert!((5000..10_000).contains(&moves), "{moves}");
    let (_, _, fields) = refusal(&outcome.expect_err("the gap is full"));
    assert!(fields[0].ends_with(".move.after_id"), "{fields:?}");
    while ann.move_task(pair()[0].clone()).await.is_ok() && ann.move_task(pair()[1].clone()).await.is_ok() {}
    // It is full on that side of A, wherever A goes to there is room.
    ann.move_task(to(&a.id, FIRST)).await.expect("there is room elsewhere");
    for request in pair() {
        ann.move_task(request).await.expect("there is room again");
    }
}
