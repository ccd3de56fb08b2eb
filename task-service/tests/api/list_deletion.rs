//! `DeleteTaskList` and its effect on the tasks.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, TaskList, move_task_request::Position};

use crate::{
    calls::{after, into, to, under},
    support::{Service, with_revision},
};

on_each_database!(
    deleting_a_list_deletes_its_tasks_and_undelete_restores_them_in_the_default_list,
    moved_tasks_follow_those_of_the_destination_list,
    tasks_moved_by_a_list_deletion_can_be_moved_again,
    ranks_stay_short_when_tasks_move_through_many_lists,
    invalid_destination_list_is_refused,
    list_is_deleted_once_by_concurrent_calls,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn deleting_a_list_deletes_its_tasks_and_undelete_restores_them_in_the_default_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let (other, early, task) =
        (ann.make("other").await, ann.make_in(&list, "early").await, ann.make_in(&list, "A").await);
    let early = ann.delete(&early.id, "").await.expect("a deletion");
    service.manual_clock.advance(DAY);

    assert_eq!(ann.delete_list(&list.id, "").await.expect("a deletion"), list);

    let now = service.clock.now();
    let expected = Task {
        update_time: Some(now.into()),
        delete_time: Some(now.into()),
        purge_time: Some((now + 30 * DAY).into()),
        etag: with_revision(&task.etag, 2),
        ..task.clone()
    };
    assert_eq!(ann.get(&task.id).await.expect("it exists"), expected);
    assert_eq!(ann.get(&early.id).await.expect("it exists"), early);
    assert_eq!(ann.list_all(0, false).await, [other.id]);
    for task in [&task, &early] {
        let restored = ann.undelete(&task.id, "").await.expect("an undeletion");
        assert_eq!((restored.list_id, restored.delete_time), (ann.id.to_string(), None));
    }
    assert_eq!(ann.top_level_titles(&ann.id.to_string()).await, ["other", "A", "early"]);
}

async fn moved_tasks_follow_those_of_the_destination_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let default = TaskList { id: ann.id.to_string(), ..TaskList::default() };
    for to in [default, ann.make_list("To").await] {
        let from = ann.make_list("From").await;
        for title in ["x", "y"] {
            ann.make_in(&to, title).await;
        }
        let mut tasks = Vec::new();
        for title in ["C", "B", "D", "A", "E"] {
            tasks.push(ann.make_in(&from, title).await);
        }
        let subtasks = [ann.make_subtask(&tasks[1], "2").await, ann.make_subtask(&tasks[1], "1").await];
        ann.move_task(under(&subtasks[1].id, &tasks[1].id, Position::First(true))).await.expect("a move");
        ann.move_task(into(&tasks[3].id, &from.id, Position::First(true))).await.expect("a move");
        ann.move_task(into(&tasks[0].id, &from.id, after(&tasks[1]))).await.expect("a move");
        ann.delete(&tasks[2].id, "").await.expect("a deletion");
        let before = ann.get(&tasks[4].id).await.expect("it exists");
        service.manual_clock.advance(DAY);

        assert_eq!(ann.delete_list(&from.id, &to.id).await.expect("a deletion"), from);

        assert_eq!(ann.top_level_titles(&to.id).await.concat(), "xyABCE");
        assert_eq!(ann.subtask_titles(&tasks[1]).await.concat(), "12");
        let now = ann.get(&before.id).await.expect("it exists");
        let (list_id, update_time) = (to.id.clone(), Some(service.clock.now().into()));
        let (rank, etag) = (now.rank.clone(), with_revision(&before.etag, 2));
        assert_eq!(now, Task { list_id, update_time, rank, etag, ..before });
        // The deleted task moved as well and keeps its position.
        let restored = ann.undelete(&tasks[2].id, "").await.expect("an undeletion");
        assert_eq!(restored.list_id, to.id);
        assert_eq!(ann.top_level_titles(&to.id).await.concat(), "xyABCDE");
    }
}

async fn tasks_moved_by_a_list_deletion_can_be_moved_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (default, list) = (ann.id.to_string(), ann.make_list("Errands").await);
    let x = ann.make("x").await;
    let (a, b) = (ann.make_in(&list, "A").await, ann.make_in(&list, "B").await);
    ann.delete_list(&list.id, &default).await.expect("a deletion");
    ann.make("y").await;
    assert_eq!(ann.top_level_titles(&default).await.concat(), "xABy");
    for (request, expected) in [
        (to(&x.id, Position::BeforeId(b.id.clone())), "AxBy"),
        (to(&b.id, Position::First(true)), "BAxy"),
        (to(&a.id, Position::Last(true)), "Bxya"),
        (to(&x.id, Position::AfterId(a.id.clone())), "Byax"),
    ] {
        ann.move_task(request).await.expect("a move");
        assert_eq!(ann.top_level_titles(&default).await.concat(), expected.replace('a', "A"));
    }
}

async fn ranks_stay_short_when_tasks_move_through_many_lists(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut list = ann.make_list("0").await;
    let mut ranks = Vec::new();
    ann.make_in(&list, "A").await;
    ann.make_in(&list, "B").await;
    for round in 1..=200 {
        let next = ann.make_list(&round.to_string()).await;
        ann.delete_list(&list.id, &next.id).await.expect("a deletion");
        list = next;
        ranks.push(ann.tasks_by_rank(false).await[0].rank.len());
    }
    assert_eq!(ann.top_level_titles(&list.id).await, ["A", "B"]);
    assert!(ranks.iter().all(|length| *length < 40), "{ranks:?}");
}

async fn invalid_destination_list_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    let missing = service.clock.new_id().to_string();
    let upper = list.id.to_uppercase();
    for to in [&list.id, &upper, "1"] {
        let outcome = ann.delete_list(&list.id, to).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "move_tasks_to");
    }
    for to in [&missing, &task.id] {
        assert_refused!(ann.delete_list(&list.id, to).await, NotFound, "LIST_NOT_FOUND", "move_tasks_to");
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
    assert_eq!(ann.get_list(&list.id).await.expect("it exists"), list);
}

async fn list_is_deleted_once_by_concurrent_calls(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-lists", "2"]).await;
    let ann = service.user();
    for _ in 0..5 {
        let list = ann.make_list("Errands").await;
        let outcomes = join_all((0..5).map(|_| ann.delete_list(&list.id, ""))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for outcome in outcomes.into_iter().filter(Result::is_err) {
            assert_refused!(outcome, NotFound, "LIST_NOT_FOUND");
        }
    }
}
