//! Many moves, sequential and concurrent.

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
    deleted_task_keeps_its_position_while_others_move,
    two_hundred_random_moves_yield_the_requested_order,
    concurrent_moves_never_collide,
    task_moved_next_to_a_task_moved_earlier_in_the_batch_is_next_to_it,
    full_gap_between_ranks_is_reported,
);

async fn deleted_task_keeps_its_position_while_others_move(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let tasks = make(&ann, ["A", "B", "C", "D", "E"]).await;
    let [a, between @ .., e] = &tasks;
    for task in between {
        ann.delete(&task.id, "").await.expect("a deletion");
    }
    // The new tasks go between A and E, on either side of the deleted ones.
    let (x, y) = (ann.make("X").await, ann.make("Y").await);
    ann.move_task(to(&x.id, after(a))).await.expect("a move");
    ann.move_task(to(&y.id, before(e))).await.expect("a move");
    for task in between {
        ann.undelete(&task.id, "").await.expect("an undeletion");
    }
    assert_eq!(titles(&ann).await, "AXBCDYE");
}

async fn two_hundred_random_moves_yield_the_requested_order(database: TestDatabase) {
    const TASKS: usize = 8;
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let lists = [ann.id.to_string(), list.id];
    let mut order: [Vec<Task>; 2] = [make(&ann, ["A", "B", "C", "D", "E", "F", "G", "H"]).await.into(), Vec::new()];
    // A fixed seed makes failures reproducible.
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
            assert_eq!(ann.top_level_titles(list).await, expected);
        }
    }
    let mut expected = order.concat();
    expected.sort_by(|one, other| one.id.cmp(&other.id));
    let mut now = ann.tasks_by_rank(false).await;
    now.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(now, expected);
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

    let now = ann.tasks_by_rank(false).await;
    let ranks: HashSet<_> = now.iter().map(|task| &task.rank).collect();
    assert_eq!((now.len(), ranks.len()), (42, 42));
    for task in moved {
        assert_eq!(now.iter().find(|now| now.id == task.id), Some(&task));
    }
    let index_of = |id: &str| now.iter().position(|task| task.id == id).expect("it exists");
    let (from, to) = (index_of(&a.id), index_of(&b.id));
    for (index, task) in others.iter().enumerate() {
        let at = index_of(&task.id);
        assert!(
            [at < from, at > to, from < at && at < to, from < at && at < to][index % 4],
            "{index} {at} {from} {to}"
        );
    }
}

async fn task_moved_next_to_a_task_moved_earlier_in_the_batch_is_next_to_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let [a, x] = make(&ann, ["A", "X"]).await;
    let (first, second) = (ann.make_in(&list, "1").await, ann.make_in(&list, "2").await);
    let moves = [into(&a.id, &list.id, LAST), into(&x.id, &list.id, before(&a))];
    ann.batch(moves.map(Kind::Move)).await.expect("a batch");
    assert_eq!(ann.top_level_titles(&list.id).await.concat(), "12XA");

    // The subtasks of a task move with it, and other tasks go between them.
    for title in ["a", "b"] {
        ann.make_subtask(&first, title).await;
    }
    let last = ann.make_subtask(&first, "c").await;
    let moves = [into(&first.id, &ann.id.to_string(), LAST), under(&second.id, &first.id, before(&last))];
    ann.batch(moves.map(Kind::Move)).await.expect("a batch");
    assert_eq!(ann.subtask_titles(&first).await.concat(), "ab2c");
}

async fn full_gap_between_ranks_is_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b, c] = make(&ann, ["A", "B", "C"]).await;
    // B and C alternately move directly after A, which halves the gap each time.
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
    // Only the gap after A is full: elsewhere A can be moved.
    ann.move_task(to(&a.id, FIRST)).await.expect("there is room elsewhere");
    for request in pair() {
        ann.move_task(request).await.expect("there is room after A's new position");
    }
}
