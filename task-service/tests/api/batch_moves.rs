//! Moves next to a task when the same batch has already moved its neighbours, its parent or the task itself.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, ListTasksRequest, MoveTaskRequest, Task,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
};

use crate::support::{Service, User, titled};

on_each_database!(
    task_moves_next_to_an_anchor_whose_neighbours_moved_away,
    task_moves_next_to_an_anchor_that_moved,
    task_moves_next_to_a_subtask_whose_parent_moved_to_another_list,
);

fn move_to(id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { id: id.to_owned(), position: Some(position), ..MoveTaskRequest::default() }
}

async fn move_all(user: &User, requests: impl IntoIterator<Item = MoveTaskRequest>) {
    let writes = requests.into_iter().map(|request| Write { write: Some(Kind::Move(request)) }).collect();
    let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    user.client.clone().batch_write_tasks(batch).await.expect("a batch");
}

/// Creates tasks, as subtasks if `parent_id` is not empty, and returns their ids.
async fn make<const N: usize>(user: &User, titles: [&str; N], parent_id: &str) -> [String; N] {
    let mut ids = Vec::new();
    for title in titles {
        ids.push(user.create(Task { parent_id: parent_id.to_owned(), ..titled(title) }).await.expect("a task").id);
    }
    ids.try_into().expect("one id per title")
}

/// Returns the concatenated titles of the subtasks of a parent, in order.
async fn titles(user: &User, parent_id: &str) -> String {
    let (order_by, filter) = ("rank".to_owned(), format!("parent_id = \"{parent_id}\""));
    let page = user.list(ListTasksRequest { order_by, filter, ..ListTasksRequest::default() }).await.expect("a page");
    page.tasks.into_iter().map(|task| task.title).collect()
}

async fn task_moves_next_to_an_anchor_whose_neighbours_moved_away(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b, c, _, _, x] = make(&ann, ["a", "b", "c", "d", "e", "x"], "").await;
    let last = |id| move_to(id, Position::Last(true));
    move_all(&ann, [last(&b), last(&c), move_to(&x, Position::AfterId(a))]).await;
    assert_eq!(titles(&ann, "").await, "axdebc");
}

async fn task_moves_next_to_an_anchor_that_moved(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [_, _, _, _, _, _, g, x] = make(&ann, ["a", "b", "c", "d", "e", "f", "g", "x"], "").await;
    move_all(&ann, [move_to(&g, Position::First(true)), move_to(&x, Position::AfterId(g.clone()))]).await;
    assert_eq!(titles(&ann, "").await, "gxabcdef");
}

async fn task_moves_next_to_a_subtask_whose_parent_moved_to_another_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [parent] = make(&ann, ["p"], "").await;
    let [a, _, _, x] = make(&ann, ["a", "b", "c", "x"], &parent).await;
    let list_id = ann.make_list("Work").await.id;
    let move_parent = MoveTaskRequest { list_id, ..move_to(&parent, Position::Last(true)) };
    let move_subtask = MoveTaskRequest { parent_id: parent.clone(), ..move_to(&x, Position::AfterId(a)) };
    move_all(&ann, [move_parent, move_subtask]).await;
    assert_eq!(titles(&ann, &parent).await, "axbc");
}
