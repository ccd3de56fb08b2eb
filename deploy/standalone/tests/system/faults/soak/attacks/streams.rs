//! Responses that are not read, watches, and streams of services that need no access token.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use taskey_proto::task::v1::{ListTasksRequest, WatchTasksRequest};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{
    http2::{Connection, message},
    load::create_and_delete,
    target::{Target, pause},
};

/// A receive window that no response fits into.
const SMALL_WINDOW: u32 = 1;

/// Row 1: requests large responses through the gateway, and reads none of them.
pub async fn leave_large_responses_unread(target: &Target, count: &AtomicUsize) {
    let Some(mut connection) = Connection::open(target.addresses.gateway, SMALL_WINDOW).await else { return };
    let mut unread = Vec::new();
    for _ in 0..8 {
        let page = ListTasksRequest { page_size: 500, ..ListTasksRequest::default() };
        let request = connection.grpc("/taskey.task.v1.TaskService/ListTasks", &target.token(), message(&page));
        unread.push(connection.sender.send_request(request).await);
        count.fetch_add(1, Ordering::Relaxed);
    }
    // The connection still answers pings.
    pending::<()>().await;
}

/// Row 2: opens all watches that an account may have, and reads none of them, while its tasks change.
pub async fn leave_watches_unread(target: &Target, count: &AtomicUsize) {
    let (mut unread, mut connections) = (Vec::new(), Vec::new());
    for address in [target.addresses.gateway, target.addresses.task[0]] {
        let Some(mut connection) = Connection::open(address, SMALL_WINDOW).await else { return };
        for _ in 0..8 {
            let request = message(&WatchTasksRequest::default());
            let request = connection.grpc("/taskey.task.v1.TaskService/WatchTasks", &target.token(), request);
            unread.push(connection.sender.send_request(request).await);
            count.fetch_add(1, Ordering::Relaxed);
        }
        connections.push(connection);
    }
    create_and_delete(target, count).await;
}

/// Row 12: opens as many health watches through the gateway as connections allow.
pub async fn open_health_watches(target: &Target, count: &AtomicUsize) {
    let mut watches = Vec::new();
    for _ in 0..8 {
        let channel = target.gateway();
        for number in 0..128 {
            let service = ["", "taskey.task.v1.TaskService", "no.such.Service"][number % 3].to_owned();
            let watch = HealthClient::new(channel.clone()).watch(HealthCheckRequest { service }).await;
            watches.extend(watch);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    pending::<()>().await;
}

/// Row 26: asks health and reflection for unknown names.
pub async fn ask_for_unknown_names(target: &Target, count: &AtomicUsize) {
    let channel = target.gateway();
    loop {
        let check = HealthCheckRequest { service: "no.such.Service".to_owned() };
        _ = HealthClient::new(channel.clone()).check(check).await;
        let symbol = MessageRequest::FileContainingSymbol("no.such.Symbol".to_owned());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
        let requests = stream::iter(vec![request; 20]);
        if let Ok(responses) = ServerReflectionClient::new(channel.clone()).server_reflection_info(requests).await {
            responses.into_inner().for_each(|_| async {}).await;
        }
        count.fetch_add(21, Ordering::Relaxed);
        pause().await;
    }
}
