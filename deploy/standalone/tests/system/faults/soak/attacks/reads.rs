//! Reads of tasks, all of one account.

use std::sync::{Mutex, atomic::AtomicUsize};

use service_kit::random;
use taskey_proto::task::v1::{
    GetTaskRequest, ListTaskChangesRequest, ListTasksRequest, Task, UpdateTaskRequest, WatchTasksRequest,
    task_service_client::TaskServiceClient,
};

use super::{
    calls::{odd_text, repeat},
    target::Target,
};
use crate::{
    faults::{ledger::lock, users::create},
    process::bearer,
};

/// Reads all changes from the beginning, four at once.
pub async fn synchronize_fully(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.gateway(), target.token());
    let (channel, token) = (&channel, &token);
    repeat(4, count, |_| async move {
        let mut client = TaskServiceClient::new(channel.clone());
        let mut request = ListTaskChangesRequest { page_size: 500, ..ListTaskChangesRequest::default() };
        loop {
            let page = client.list_task_changes(bearer(token, request.clone())).await?.into_inner();
            if !page.has_more {
                return Ok(());
            }
            request.sync_token = page.next_sync_token;
        }
    })
    .await;
}

/// Opens watches from the beginning, and closes each after its first message.
pub async fn open_short_watches(target: &Target, count: &AtomicUsize) {
    let (channels, token) = ([target.gateway(), target.task()], target.token());
    let (channels, token) = (&channels, &token);
    repeat(16, count, |number| async move {
        let request = bearer(token, WatchTasksRequest::default());
        let mut client = TaskServiceClient::new(channels[number % 2].clone());
        client.watch_tasks(request).await?.into_inner().message().await
    })
    .await;
}

/// Sends page tokens, sync tokens and etags that were changed in one character, or are as long as a request may be.
pub async fn send_forged_tokens(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    let page = ListTasksRequest { page_size: 1, ..ListTasksRequest::default() };
    let Ok(page) = TaskServiceClient::new(channel.clone()).list_tasks(bearer(&token, page)).await else { return };
    let valid = page.into_inner().next_page_token;
    let (channel, token, valid) = (&channel, &token, &valid);
    repeat(16, count, |number| async move {
        let mut forged = valid.clone().into_bytes();
        let position = fastrand::usize(..forged.len());
        forged[position] = fastrand::alphanumeric().try_into().unwrap_or(b'A');
        let forged = String::from_utf8(forged).unwrap_or_default();
        let forged = if number % 5 == 0 { "A".repeat(200_000) } else { forged };
        let mut client = TaskServiceClient::new(channel.clone());
        match number % 3 {
            0 => {
                let request = ListTasksRequest { page_token: forged, ..ListTasksRequest::default() };
                client.list_tasks(bearer(token, request)).await.map(drop)
            }
            1 => {
                let request = ListTaskChangesRequest { sync_token: forged, page_size: 500 };
                client.list_task_changes(bearer(token, request)).await.map(drop)
            }
            _ => {
                let id = target.parent_id.clone();
                let task = Some(Task { id, title: "forged".to_owned(), etag: forged, ..Task::default() });
                let request = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
                client.update_task(bearer(token, request)).await.map(drop)
            }
        }
    })
    .await;
}

/// Sends filters with the deepest nesting and beyond, chains of negations, and wildcards, sorted by three fields.
pub async fn send_nested_filters(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    let nested = |depth: usize| format!("{}title:x{}", "(".repeat(depth), ")".repeat(depth));
    let filters = [
        nested(16),
        nested(100_000),
        format!("{}title:x", "NOT (".repeat(16)) + &")".repeat(16),
        format!("{}title:x", "-".repeat(1900)),
        format!("{}title:x", "NOT ".repeat(400)),
        ["notes:\"*\" AND -title:\"%_%\""; 60].join(" "),
        format!("\"{}\"", odd_text(700)),
        format!("notes:\"{}\"", "ipsum lorem ".repeat(160)),
    ];
    let (channel, token, filters) = (&channel, &token, &filters);
    repeat(8, count, |number| async move {
        let request = ListTasksRequest {
            filter: filters[number % filters.len()].clone(),
            order_by: "title desc, due_time, update_time desc".to_owned(),
            page_size: 500,
            show_deleted: true,
            ..ListTasksRequest::default()
        };
        TaskServiceClient::new(channel.clone()).list_tasks(bearer(token, request)).await
    })
    .await;
}

/// Creates tasks with the largest texts of characters that are expensive to compare, and searches in them.
pub async fn search_odd_text(target: &Target, count: &AtomicUsize) {
    let (channel, token) = (target.task(), target.token());
    for _ in 0..20 {
        let Ok(task) = create(&channel, &token, &odd_text(200)).await else { continue };
        let task = Some(Task { id: task.id, notes: odd_text(4000), ..Task::default() });
        let request = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
        _ = TaskServiceClient::new(channel.clone()).update_task(bearer(&token, request)).await;
    }
    // Matches until the last character, at every position of the text.
    let filter = format!("notes:\"{}x\" OR title:\"{}y\"", odd_text(400), odd_text(100));
    let (channel, token, filter) = (&channel, &token, &filter);
    repeat(8, count, |_| async move {
        let request = ListTasksRequest { filter: filter.clone(), ..ListTasksRequest::default() };
        TaskServiceClient::new(channel.clone()).list_tasks(bearer(token, request)).await
    })
    .await;
}

/// Gets tasks that do not exist, and pages of one task, through the gateway and directly.
pub async fn get_unknown_tasks(target: &Target, count: &AtomicUsize) {
    let (channels, token, page_token) = ([target.gateway(), target.task()], target.token(), Mutex::new(String::new()));
    let (channels, token, page_token) = (&channels, &token, &page_token);
    repeat(32, count, |number| async move {
        let mut client = TaskServiceClient::new(channels[number % 2].clone());
        if number % 4 > 0 {
            let request = GetTaskRequest { id: random::id().to_string() };
            return client.get_task(bearer(token, request)).await.map(drop);
        }
        let current = lock(page_token).clone();
        let request = ListTasksRequest { page_size: 1, page_token: current, ..ListTasksRequest::default() };
        let page = client.list_tasks(bearer(token, request)).await?.into_inner();
        *lock(page_token) = page.next_page_token;
        Ok(())
    })
    .await;
}
