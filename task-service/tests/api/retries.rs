//! Clients whose connections break, and who ask again until they have an answer.

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
    support::{PATIENCE, Service, User, titled},
};

on_each_database!(a_client_that_retries_with_its_request_id_does_everything_once);

const CLIENTS: u64 = 8;
const ROUNDS: usize = 20;

/// Calls until there is an answer, be it a refusal.
///
/// # Panics
/// If that takes too long.
pub(crate) async fn retry<T, F: Future<Output = Result<Response<T>, Status>>>(
    call: impl Fn() -> F,
) -> Result<Response<T>, Status> {
    let mut last = None;
    let answered = timeout(4 * PATIENCE, async {
        loop {
            match call().await {
                Err(status) if may_pass(&status) => last = Some(status),
                answer => return answer,
            }
        }
    });
    let answered = answered.await.ok();
    answered.unwrap_or_else(|| panic!("no answer came in time, last because of {last:?}"))
}

/// Whether another try may help. Whatever the service refuses has a reason; what does not get through to it has none.
fn may_pass(status: &Status) -> bool {
    ["", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&&*refusal(status).1)
}

/// Makes tasks and deletes some of them. Gives those that were answered, and how many answers were given before.
async fn work(ann: &User, proxy: &Proxy, ids: &[Uuid]) -> (Vec<Task>, usize) {
    let client = ann.by(proxy.channel.clone()).client;
    let (mut tasks, mut replayed) = (Vec::new(), 0);
    for [one, several, deletion] in ids.as_chunks::<3>().0 {
        let create = |id: String| CreateTaskRequest { task: Some(titled(&id)), request_id: id, validate_only: false };
        let answer = retry(|| async { client.clone().create_task(create(one.to_string())).await }).await;
        let answer = answer.expect("a task is made");
        replayed += usize::from(answer.metadata().contains_key("idempotent-replayed"));
        let single = answer.into_inner();

        let task = |part| Some(titled(&format!("{several} {part}")));
        let write = |part| Kind::Create(CreateTaskRequest { task: task(part), ..CreateTaskRequest::default() });
        let writes: Vec<_> = (0..3).map(|part| Write { write: Some(write(part)) }).collect();
        let batch = BatchWriteTasksRequest { writes, request_id: several.to_string(), validate_only: false };
        let answer = retry(|| async { client.clone().batch_write_tasks(batch.clone()).await }).await;
        let answer = answer.expect("tasks are made");
        replayed += usize::from(answer.metadata().contains_key("idempotent-replayed"));
        tasks.extend(answer.into_inner().tasks);

        let request_id = deletion.to_string();
        let delete = DeleteTaskRequest { id: single.id, request_id, ..DeleteTaskRequest::default() };
        let answer = retry(|| async { client.clone().delete_task(delete.clone()).await }).await;
        tasks.push(answer.expect("it was not deleted before").into_inner());
    }
    (tasks, replayed)
}

async fn a_client_that_retries_with_its_request_id_does_everything_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // Enough for a call or two.
    let proxies = join_all((0..CLIENTS).map(|_| Proxy::start(service.address, 1500..=8000))).await;
    let done = join_all(proxies.iter().map(async |proxy| {
        let ids: Vec<_> = (0..3 * ROUNDS).map(|_| service.clock.new_id()).collect();
        work(&ann, proxy, &ids).await
    }))
    .await;
    let replayed: usize = done.iter().map(|(_, replayed)| replayed).sum();
    let breaks: u64 = proxies.iter().map(Proxy::breaks).sum();
    assert!(replayed > 0 && breaks > 0, "of {breaks} breaks none has cost an answer");

    let mut answered: Vec<_> = done.into_iter().flat_map(|(tasks, _)| tasks).collect();
    answered.sort_by(|one, other| one.id.cmp(&other.id));
    let there: Vec<_> = ann.everything().await.into_values().collect();
    assert_eq!(there, answered, "each is there once, as it was answered");
}
