//! The number of statements of a mutation.

use service_kit::{clock::Clock, db::Db, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, MoveTaskRequest, Task,
    UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
};
use uuid::Uuid;

use super::{mutation, open};
use crate::{
    model::TaskRow,
    request::batch,
    store::{
        mutations::{Mutation, execute_within},
        tasks::get,
        transaction::NotCommitted,
    },
};

/// Executes a batch. Returns the number of its statements, and its tasks.
async fn count(db: &Db, owner: Uuid, writes: impl Iterator<Item = Kind>) -> (u64, Vec<TaskRow>) {
    let clock = Clock::system();
    let writes = writes.map(|write| Write { write: Some(write) }).collect();
    let request = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
    let (writes, prefixes) = batch::parse(request).expect("the batch is valid");
    let new_ids = writes.iter().map(|_| clock.new_id()).collect();
    let mutation = Mutation { prefixes, ..mutation(owner, clock.now(), writes, new_ids) };
    let executed = db.write(|conn| {
        Box::pin(async move {
            let before = conn.statement_count();
            let rows = execute_within(conn, mutation).await?;
            Ok::<_, NotCommitted<_>>((conn.statement_count() - before, rows))
        })
    });
    let Ok((statements, rows)) = executed.await else { panic!("the batch was not executed") };
    (statements, rows.into_iter().flatten().collect())
}

on_each_database! {
    the_number_of_statements_is_independent_of_the_batch_size,
    long_texts_are_written_by_several_statements,
}

async fn the_number_of_statements_is_independent_of_the_batch_size(database: TestDatabase) {
    let (db, owner) = (open(&database).await, Clock::system().new_id());
    let create = || {
        let task = Task { title: "Buy milk".to_owned(), ..Task::default() };
        Kind::Create(CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() })
    };
    let (_, anchors) = count(&db, owner, [create(), create()].into_iter()).await;
    let mut counts = Vec::new();
    for size in [2, 100] {
        let (created, tasks) = count(&db, owner, (0..size).map(|_| create())).await;
        let ids: Vec<_> = tasks.iter().map(|task| task.id.to_string()).collect();
        let (moved, _) = count(
            &db,
            owner,
            ids.iter().enumerate().map(|(index, id)| {
                let position = Some(Position::AfterId(anchors[index % 2].id.to_string()));
                Kind::Move(MoveTaskRequest { id: id.clone(), position, ..MoveTaskRequest::default() })
            }),
        )
        .await;
        let (changed, _) = count(
            &db,
            owner,
            ids.iter().enumerate().map(|(index, id)| {
                let task = Task { id: id.clone(), notes: "two bottles".to_owned(), ..Task::default() };
                match index % 2 {
                    0 => Kind::Update(UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() }),
                    _ => Kind::Complete(CompleteTaskRequest { id: id.clone(), ..CompleteTaskRequest::default() }),
                }
            }),
        )
        .await;
        let (deleted, _) = count(
            &db,
            owner,
            ids.iter().map(|id| Kind::Delete(DeleteTaskRequest { id: id.clone(), ..DeleteTaskRequest::default() })),
        )
        .await;
        counts.push([created, moved, changed, deleted]);
    }
    assert_eq!(counts[0], counts[1]);
    assert!(counts[0].iter().all(|count| (2..10).contains(count)), "{counts:?}");
    db.close().await;
}

async fn long_texts_are_written_by_several_statements(database: TestDatabase) {
    let (db, owner) = (open(&database).await, Clock::system().new_id());
    let create = |number: usize, length: usize| {
        let (title, notes) = (format!("task {number}"), "\u{fdfa}".repeat(length));
        let task = Some(Task { title, notes, ..Task::default() });
        Kind::Create(CreateTaskRequest { task, ..CreateTaskRequest::default() })
    };
    // Creates the default list.
    count(&db, owner, [create(0, 0)].into_iter()).await;
    let (short, _) = count(&db, owner, (0..60).map(|number| create(number, 10))).await;
    // 60 times 3 KB are at least 22 times 8 KiB. The first statement is counted already.
    let (long, tasks) = count(&db, owner, (0..60).map(|number| create(number, 1000))).await;
    assert!((short + 21..short + 120).contains(&long), "{short} and {long}");
    assert!(tasks.iter().enumerate().all(|(number, task)| task.title == format!("task {number}")));
    for task in tasks {
        let stored = get(&db, owner, Clock::system().now(), task.id).await.expect("stored");
        assert_eq!((stored.title, stored.notes), (task.title, task.notes));
    }
    db.close().await;
}
