//! Writes of tasks and lists, each attack with one account.

use std::sync::atomic::AtomicUsize;

use service_kit::random;
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest, DeleteTaskRequest,
    MoveTaskRequest, Task, TaskList, UndeleteTaskRequest, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write},
    move_task_request::Position,
    task_list_service_client::TaskListServiceClient,
    task_service_client::TaskServiceClient,
};
use tonic::{Response, Status, transport::Channel};

use super::{
    Attack,
    calls::{Account, odd_text, repeat},
    reads,
    target::Target,
};
use crate::{faults::users::create, process::bearer};

/// The attacks of this file and of `reads` by name.
pub const TASKS: [(&str, Attack); 16] = [
    ("updates on 60 connections", |target, count| Box::pin(update_on_many_connections(target, count))),
    ("moves into subtasks", |target, count| Box::pin(move_into_subtasks(target, count))),
    ("moves of large subtrees", |target, count| Box::pin(move_large_subtree(target, count))),
    ("moves between two tasks", |target, count| Box::pin(move_between_two_tasks(target, count))),
    ("request ids", |target, count| Box::pin(use_request_ids(target, count))),
    ("lists with many tasks", |target, count| Box::pin(delete_lists(target, count))),
    ("invalid batches", |target, count| Box::pin(write_invalid_batches(target, count))),
    ("dry runs of large deletions", |target, count| Box::pin(rehearse_large_deletions(target, count))),
    ("distinct labels", |target, count| Box::pin(change_labels(target, count))),
    ("large deleted tasks", |target, count| Box::pin(delete_large_tasks(target, count))),
    ("full synchronizations", |target, count| Box::pin(reads::synchronize_fully(target, count))),
    ("short watches", |target, count| Box::pin(reads::open_short_watches(target, count))),
    ("forged tokens", |target, count| Box::pin(reads::send_forged_tokens(target, count))),
    ("nested filters", |target, count| Box::pin(reads::send_nested_filters(target, count))),
    ("searches in odd text", |target, count| Box::pin(reads::search_odd_text(target, count))),
    ("unknown ids", |target, count| Box::pin(reads::get_unknown_tasks(target, count))),
];

/// Returns an access token of a new account, which has not reached any limit.
async fn own_token(target: &Target) -> String {
    Account::sign_up(target).await.pair.access_token
}

/// Updates one task on as many connections as an address may have, half of the calls with a wrong etag.
async fn update_on_many_connections(target: &Target, count: &AtomicUsize) {
    let (channels, token): (Vec<_>, _) = ((0..60).map(|_| target.task()).collect(), own_token(target).await);
    let Ok(task) = create(&channels[0], &token, "updated").await else { return };
    let (channels, task, token) = (&channels, &task, &token);
    repeat(channels.len(), count, |number| async move {
        let etag = if number % 2 == 0 { task.etag.clone() } else { String::new() };
        let task = Task { id: task.id.clone(), title: format!("update {number}"), etag, ..Task::default() };
        let request = UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() };
        TaskServiceClient::new(channels[number % channels.len()].clone()).update_task(bearer(token, request)).await
    })
    .await;
}

/// Moves the tasks of the deepest hierarchy under each other, so that most moves would result in cycles.
async fn move_into_subtasks(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), own_token(target).await);
    let mut ids: Vec<String> = Vec::new();
    for level in 0..5 {
        let Ok(task) = create(&channel, &token, &format!("level {level}")).await else { return };
        if let Some(parent_id) = ids.last() {
            let request =
                MoveTaskRequest { id: task.id.clone(), parent_id: parent_id.clone(), ..MoveTaskRequest::default() };
            _ = move_task(&channel, &token, request).await;
        }
        ids.push(task.id);
    }
    let (channel, token, ids) = (&channel, &token, &ids);
    repeat(8, count, |number| async move {
        let [id, parent_id] = [number, number / 5].map(|number| ids[number % 5].clone());
        move_task(channel, token, MoveTaskRequest { id, parent_id, ..MoveTaskRequest::default() }).await
    })
    .await;
}

/// Moves a task with many subtasks to another list and back.
async fn move_large_subtree(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    let Ok(list) = create_list(&channel, &token).await else { return };
    let lists = [list.id, list.owner_id];
    let (channel, token, lists) = (&channel, &token, &lists);
    repeat(1, count, |number| async move {
        let (id, list_id) = (target.parent_id.clone(), lists[number % 2].clone());
        move_task(channel, token, MoveTaskRequest { id, list_id, ..MoveTaskRequest::default() }).await
    })
    .await;
}

/// Moves two tasks in turn to the position directly after a third one, so that ranks become ever longer.
async fn move_between_two_tasks(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), own_token(target).await);
    let mut ids = Vec::new();
    for title in ["first", "second", "third"] {
        let Ok(task) = create(&channel, &token, title).await else { return };
        ids.push(task.id);
    }
    let (channel, token, ids) = (&channel, &token, &ids);
    repeat(2, count, |number| async move {
        let position = Some(Position::AfterId(ids[0].clone()));
        let request = MoveTaskRequest { id: ids[1 + number % 2].clone(), position, ..MoveTaskRequest::default() };
        move_task(channel, token, request).await
    })
    .await;
}

/// Sends large batches with request ids: half of them with a new one, the others with one that was used before, by the
/// same batch or by another one.
async fn use_request_ids(target: &Target, count: &AtomicUsize) {
    let (channel, token, known) = (target.task(), own_token(target).await, random::id().to_string());
    let Ok(task) = create(&channel, &token, "updated").await else { return };
    let (channel, task, token, known) = (&channel, &task, &token, &known);
    repeat(8, count, |number| async move {
        let title = format!("update {}", if number % 3 == 0 { 0 } else { number });
        let update = Task { id: task.id.clone(), title, notes: odd_text(2000), ..Task::default() };
        let update = UpdateTaskRequest { task: Some(update), ..UpdateTaskRequest::default() };
        let writes = vec![Write { write: Some(write::Write::Update(update)) }; 30];
        let request_id = if number % 2 == 0 { known.clone() } else { random::id().to_string() };
        let request = BatchWriteTasksRequest { writes, request_id, ..BatchWriteTasksRequest::default() };
        TaskServiceClient::new(channel.clone()).batch_write_tasks(bearer(token, request)).await
    })
    .await;
}

/// Creates a list, moves a task with many subtasks to it, deletes the list, and restores the task.
async fn delete_lists(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    let (channel, token) = (&channel, &token);
    repeat(1, count, |_| async move {
        let id = target.parent_id.clone();
        let list_id = create_list(channel, token).await?.id;
        let request = MoveTaskRequest { id: id.clone(), list_id: list_id.clone(), ..MoveTaskRequest::default() };
        let moved = move_task(channel, token, request).await;
        let request = DeleteTaskListRequest { id: list_id, ..DeleteTaskListRequest::default() };
        _ = TaskListServiceClient::new(channel.clone()).delete_task_list(bearer(token, request)).await;
        let request = bearer(token, UndeleteTaskRequest { id, ..UndeleteTaskRequest::default() });
        _ = TaskServiceClient::new(channel.clone()).undelete_task(request).await;
        moved
    })
    .await;
}

/// Sends the largest batches, eight at once. The last write of each fails, so that the others are rolled back.
async fn write_invalid_batches(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), own_token(target).await);
    let task = Task { title: odd_text(50), notes: odd_text(800), ..Task::default() };
    let create = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    let mut writes = vec![Write { write: Some(write::Write::Create(create)) }; 99];
    let unknown = DeleteTaskRequest { id: random::id().to_string(), ..DeleteTaskRequest::default() };
    writes.push(Write { write: Some(write::Write::Delete(unknown)) });
    let (channel, token, writes) = (&channel, &token, &writes);
    repeat(8, count, |_| async move {
        let request = BatchWriteTasksRequest { writes: writes.clone(), ..BatchWriteTasksRequest::default() };
        TaskServiceClient::new(channel.clone()).batch_write_tasks(bearer(token, request)).await
    })
    .await;
}

/// Deletes and moves a task with many subtasks without an effect, eight calls at once. No row is written.
async fn rehearse_large_deletions(target: &Target, count: &AtomicUsize) {
    let (channels, token) = (target.tasks(), target.token());
    // Another attack may have deleted the task.
    let request = UndeleteTaskRequest { id: target.parent_id.clone(), ..UndeleteTaskRequest::default() };
    _ = TaskServiceClient::new(channels[0].clone()).undelete_task(bearer(&token, request)).await;
    let (channels, token) = (&channels, &token);
    repeat(8, count, |number| async move {
        let mut client = TaskServiceClient::new(channels[number % channels.len()].clone());
        let id = target.parent_id.clone();
        let request = DeleteTaskRequest { id, validate_only: true, ..DeleteTaskRequest::default() };
        client.delete_task(bearer(token, request)).await
    })
    .await;
}

/// Replaces all labels of a task with the longest ones that were not used before.
async fn change_labels(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), own_token(target).await);
    let Ok(task) = create(&channel, &token, "labelled").await else { return };
    let (channel, task, token) = (&channel, &task, &token);
    repeat(8, count, |_| async move {
        let label = |_| format!("{} {}", random::id(), odd_text(13));
        let task = Task { id: task.id.clone(), labels: (0..20).map(label).collect(), ..Task::default() };
        let request = UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() };
        TaskServiceClient::new(channel.clone()).update_task(bearer(token, request)).await
    })
    .await;
}

/// Creates batches of large tasks and deletes them, so that deleted tasks fill the database.
async fn delete_large_tasks(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), own_token(target).await);
    let task = Task { title: odd_text(200), notes: odd_text(800), ..Task::default() };
    let create = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    let writes = vec![Write { write: Some(write::Write::Create(create)) }; 90];
    let (channel, token, writes) = (&channel, &token, &writes);
    repeat(1, count, |_| async move {
        let mut client = TaskServiceClient::new(channel.clone());
        let request = BatchWriteTasksRequest { writes: writes.clone(), ..BatchWriteTasksRequest::default() };
        let created = client.batch_write_tasks(bearer(token, request)).await?.into_inner().tasks;
        let delete = |task: Task| DeleteTaskRequest { id: task.id, ..DeleteTaskRequest::default() };
        let writes =
            created.into_iter().map(|task| Write { write: Some(write::Write::Delete(delete(task))) }).collect();
        let request = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        client.batch_write_tasks(bearer(token, request)).await
    })
    .await;
}

async fn create_list(channel: &Channel, token: &str) -> Result<TaskList, Status> {
    let list = TaskList { title: odd_text(200), ..TaskList::default() };
    let request = CreateTaskListRequest { task_list: Some(list), ..CreateTaskListRequest::default() };
    let list = TaskListServiceClient::new(channel.clone()).create_task_list(bearer(token, request)).await;
    list.map(Response::into_inner)
}

async fn move_task(channel: &Channel, token: &str, request: MoveTaskRequest) -> Result<Response<Task>, Status> {
    TaskServiceClient::new(channel.clone()).move_task(bearer(token, request)).await
}
