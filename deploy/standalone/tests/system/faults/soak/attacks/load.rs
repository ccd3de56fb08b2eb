//! Valid calls of one account that cause much work.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use taskey_proto::task::v1::{
    DeleteTaskRequest, ListTasksRequest, Task, UndeleteTaskRequest, UpdateTaskRequest,
    task_service_client::TaskServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};

use super::target::{Target, pause};
use crate::{faults::users::create, process::bearer};

/// Row 6: makes calls through the gateway, and cancels each.
pub async fn cancel_calls(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), target.token());
    let (mut calls, mut ticks) = (JoinSet::new(), interval(Duration::from_millis(5)));
    loop {
        ticks.tick().await;
        let (mut client, number) = (TaskServiceClient::new(channel.clone()), count.fetch_add(1, Ordering::Relaxed));
        let request = bearer(&token, ListTasksRequest { page_size: 100, ..ListTasksRequest::default() });
        let cancel_after = Duration::from_millis([0, 1, 5, 50][number % 4]);
        calls.spawn(timeout(cancel_after, async move { _ = client.list_tasks(request).await }));
        while calls.try_join_next().is_some() {}
    }
}

/// Row 8: searches with the most expensive filters, ten at a time.
pub async fn search_expensively(target: &Target, count: &AtomicUsize) {
    let conditions: Vec<_> = (0..64).map(|number| format!("notes:absent{number}")).collect();
    let filter = conditions.join(" OR ");
    list_in_parallel(target, count, 10, ListTasksRequest { filter, ..ListTasksRequest::default() }).await;
}

/// Lists the largest pages, four at a time.
pub async fn list_large_pages(target: &Target, count: &AtomicUsize) {
    list_in_parallel(target, count, 4, ListTasksRequest { page_size: 500, ..ListTasksRequest::default() }).await;
}

async fn list_in_parallel(target: &Target, count: &AtomicUsize, calls: usize, request: ListTasksRequest) {
    let (channel, token) = (target.gateway(), target.token());
    let list = async || loop {
        _ = TaskServiceClient::new(channel.clone()).list_tasks(bearer(&token, request.clone())).await;
        count.fetch_add(1, Ordering::Relaxed);
        pause().await;
    };
    join_all((0..calls).map(|_| list())).await;
}

/// Row 9: deletes and restores a task with many subtasks.
pub async fn delete_and_restore_subtrees(target: &Target, count: &AtomicUsize) {
    let (mut client, token) = (TaskServiceClient::new(target.task()), target.token());
    loop {
        let delete = DeleteTaskRequest { id: target.parent_id.clone(), ..DeleteTaskRequest::default() };
        _ = client.delete_task(bearer(&token, delete)).await;
        let restore = UndeleteTaskRequest { id: target.parent_id.clone(), ..UndeleteTaskRequest::default() };
        _ = client.undelete_task(bearer(&token, restore)).await;
        count.fetch_add(2, Ordering::Relaxed);
        pause().await;
    }
}

/// Row 10: creates and deletes tasks as fast as the limits allow.
pub async fn create_and_delete(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    loop {
        if let Ok(task) = create(&channel, &token, &"x".repeat(100)).await {
            let delete = DeleteTaskRequest { id: task.id, ..DeleteTaskRequest::default() };
            _ = TaskServiceClient::new(channel.clone()).delete_task(bearer(&token, delete)).await;
        }
        count.fetch_add(2, Ordering::Relaxed);
        pause().await;
    }
}

/// Row 18: updates one task at all replicas at once.
pub async fn update_concurrently(target: &Target, count: &AtomicUsize) {
    let token = target.token();
    let channels = target.tasks();
    loop {
        join_all(channels.iter().map(async |channel| {
            let title = format!("update {}", count.fetch_add(1, Ordering::Relaxed));
            let task = Some(Task { id: target.parent_id.clone(), title, ..Task::default() });
            let request = bearer(&token, UpdateTaskRequest { task, ..UpdateTaskRequest::default() });
            _ = TaskServiceClient::new(channel.clone()).update_task(request).await;
        }))
        .await;
        pause().await;
    }
}
