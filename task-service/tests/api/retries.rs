//! Clients that retry over breaking connections until they get a response.

use futures::future::join_all;
use service_kit::{
    on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CreateTaskRequest, DeleteTaskRequest, Task,
    batch_write_tasks_request::{Write, write::Write as Kind},
};
use tokio::time::timeout;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::{
    proxy::Proxy,
    support::{Service, User, WAIT_TIMEOUT, titled},
};

on_each_database!(retries_with_a_request_id_take_effect_once);

const CLIENTS: u64 = 8;
const ROUNDS: usize = 20;

/// Retries a call until the service responds, with success or a permanent error.
///
/// # Panics
/// If that takes too long.
pub(crate) async fn retry<T, F: Future<Output = Result<Response<T>, Status>>>(
    call: impl Fn() -> F,
) -> Result<Response<T>, Status> {
    let mut last = None;
    let response = timeout(4 * WAIT_TIMEOUT, async {
        loop {
            match call().await {
                Err(status) if is_transient(&status) => last = Some(status),
                result => return result,
            }
        }
    });
    let response = response.await.ok();
    response.unwrap_or_else(|| panic!("no response in time; last error: {last:?}"))
}

/// Reports whether a retry may help. Errors without a reason come from the connection, not from the service.
fn is_transient(status: &Status) -> bool {
    ["", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&&*refusal(status).1)
}

/// Creates tasks and deletes some of them. Returns the tasks in the responses and the number of replayed responses.
async fn create_and_delete(ann: &User, proxy: &Proxy, ids: &[Uuid]) -> (Vec<Task>, usize) {
    let client = ann.with_channel(proxy.channel.clone()).client;
    let (mut tasks, mut replayed) = (Vec::new(), 0);
    for [one, several, deletion] in ids.as_chunks::<3>().0 {
        let create = |id: String| {
            let task = Some(titled(&id));
            CreateTaskRequest { task, request_id: id, ..CreateTaskRequest::default() }
        };
        let response = retry(|| async { client.clone().create_task(create(one.to_string())).await }).await;
        let response = response.expect("the task is created");
        replayed += usize::from(response.metadata().contains_key("idempotent-replayed"));
        let single = response.into_inner();

        let task = |index| Some(titled(&format!("{several} {index}")));
        let write = |index| Kind::Create(CreateTaskRequest { task: task(index), ..CreateTaskRequest::default() });
        let writes: Vec<_> = (0..3).map(|index| Write { write: Some(write(index)) }).collect();
        let batch = BatchWriteTasksRequest { writes, request_id: several.to_string(), validate_only: false };
        let response = retry(|| async { client.clone().batch_write_tasks(batch.clone()).await }).await;
        let response = response.expect("the tasks are created");
        replayed += usize::from(response.metadata().contains_key("idempotent-replayed"));
        tasks.extend(response.into_inner().tasks);

        let request_id = deletion.to_string();
        let delete = DeleteTaskRequest { id: single.id, request_id, ..DeleteTaskRequest::default() };
        let response = retry(|| async { client.clone().delete_task(delete.clone()).await }).await;
        tasks.push(response.expect("the deletion takes effect once").into_inner());
    }
    (tasks, replayed)
}

async fn retries_with_a_request_id_take_effect_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // Enough bytes for a call or two per connection.
    let proxies = join_all((0..CLIENTS).map(|_| Proxy::start(service.address, 1500..=8000))).await;
    let done = join_all(proxies.iter().map(async |proxy| {
        let ids: Vec<_> = (0..3 * ROUNDS).map(|_| service.clock.new_id()).collect();
        create_and_delete(&ann, proxy, &ids).await
    }))
    .await;
    let replayed: usize = done.iter().map(|(_, replayed)| replayed).sum();
    let breaks: u64 = proxies.iter().map(Proxy::breaks).sum();
    assert!(replayed > 0 && breaks > 0, "none of {breaks} broken connections lost a response");

    let mut returned: Vec<_> = done.into_iter().flat_map(|(tasks, _)| tasks).collect();
    returned.sort_by(|one, other| one.id.cmp(&other.id));
    let existing: Vec<_> = ann.all_tasks().await.into_values().collect();
    assert_eq!(existing, returned, "each task exists once, as returned");
}
