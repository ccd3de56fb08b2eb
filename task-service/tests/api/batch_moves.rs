//! Moves beside a task around which the same batch has moved others.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, ListTasksRequest, MoveTaskRequest, Task,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
};

use crate::support::{Service, User, titled};

on_each_database!(
    a_move_beside_a_task_whose_neighbours_have_gone_is_beside_it,
    a_move_beside_a_task_that_has_moved_is_beside_it,
    a_move_beside_a_part_whose_parent_has_gone_to_another_list_is_beside_it,
);

fn order(id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { id: id.to_owned(), position: Some(position), ..MoveTaskRequest::default() }
}

async fn move_all(user: &User, orders: impl IntoIterator<Item = MoveTaskRequest>) {
    let writes = orders.into_iter().map(|order| Write { write: Some(Kind::Move(order)) }).collect();
    let batch = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    user.client.clone().batch_write_tasks(batch).await.expect("a batch");
}

/// Makes tasks that are called by the letters of `titles`, under a parent if there is one, and answers their ids.
async fn make<const N: usize>(user: &User, titles: [&str; N], parent_id: &str) -> [String; N] {
    let mut ids = Vec::new();
    for title in titles {
        ids.push(user.create(Task { parent_id: parent_id.to_owned(), ..titled(title) }).await.expect("a task").id);
    }
    ids.try_into().expect("as many as there are titles")
}

/// The titles of siblings in their order.
async fn titles(user: &User, parent_id: &str) -> String {
    let (order_by, filter) = ("rank".to_owned(), format!("parent_id = \"{parent_id}\""));
    let page = user.list(ListTasksRequest { order_by, filter, ..ListTasksRequest::default() }).await.expect("a page");
    page.tasks.into_iter().map(|task| task.title).collect()
}

async fn a_move_beside_a_task_whose_neighbours_have_gone_is_beside_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [a, b, c, _, _, x] = make(&ann, ["a", "b", "c", "d", "e", "x"], "").await;
    let last = |id| order(id, Position::Last(true));
    move_all(&ann, [last(&b), last(&c), order(&x, Position::AfterId(a))]).await;
    assert_eq!(titles(&ann, "").await, "axdebc");
}

async fn a_move_beside_a_task_that_has_moved_is_beside_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [_, _, _, _, _, _, g, x] = make(&ann, ["a", "b", "c", "d", "e", "f", "g", "x"], "").await;
    move_all(&ann, [order(&g, Position::First(true)), order(&x, Position::AfterId(g.clone()))]).await;
    assert_eq!(titles(&ann, "").await, "gxabcdef");
}

async fn a_move_beside_a_part_whose_parent_has_gone_to_another_list_is_beside_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let [parent] = make(&ann, ["p"], "").await;
    let [a, _, _, x] = make(&ann, ["a", "b", "c", "x"], &parent).await;
    let list_id = ann.make_list("Work").await.id;
    let away = MoveTaskRequest { list_id, ..order(&parent, Position::Last(true)) };
    let beside = MoveTaskRequest { parent_id: parent.clone(), ..order(&x, Position::AfterId(a)) };
    move_all(&ann, [away, beside]).await;
    assert_eq!(titles(&ann, &parent).await, "axbc");
}
