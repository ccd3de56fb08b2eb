//! gRPC clients of the services. Envoy repeats their reads; clients repeat writes with the same request id.

use std::{collections::HashSet, time::Duration};

use service_kit::random;
use taskey_proto::task::v1::{
    CreateTaskRequest, GetTaskRequest, Task, WatchTasksRequest, task_service_client::TaskServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use super::{Services, restart_each};
use crate::{
    faults::{
        report::report_value,
        users::{CALL_TIMEOUT, create, me, sign_up_and_log_in},
    },
    process::{bearer, channel},
};

const READERS: usize = 4;

/// How often a write is attempted, and the first pause, as in `service_config.json`. Each further pause is twice as long.
const MAX_ATTEMPTS: u32 = 5;
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// There were at least this number of calls of each kind.
const CALLS: usize = 50;

const LAST_TITLE: &str = "The last one";

/// An account, and where its client reaches the services.
#[derive(Clone)]
struct Client {
    auth: Channel,
    task: Channel,
    token: String,
    stopped: CancellationToken,
}

impl Client {
    /// Reads the account and a task until it is stopped, without retries of its own. Returns the outcomes.
    async fn read(self, id: String) -> Vec<Result<(), Status>> {
        let (mut outcomes, mut tasks) = (Vec::new(), TaskServiceClient::new(self.task));
        while !self.stopped.is_cancelled() {
            outcomes.push(me(&self.auth, &self.token).await.map(drop));
            let task = tasks.get_task(bearer(&self.token, GetTaskRequest { id: id.clone() }));
            outcomes.push(task.await.map(drop));
        }
        outcomes
    }

    /// Creates tasks until it is stopped. Returns their ids, or the errors of the last attempts.
    async fn write(self) -> Vec<Result<String, Status>> {
        let mut outcomes = Vec::new();
        while !self.stopped.is_cancelled() {
            outcomes.push(self.create().await);
        }
        outcomes
    }

    /// Creates a task and returns its id. Repeats the call while the service is unavailable.
    async fn create(&self) -> Result<String, Status> {
        let (task, request_id) = (Task { title: "Buy oats".to_owned(), ..Task::default() }, random::id().to_string());
        let request = CreateTaskRequest { task: Some(task), request_id, ..CreateTaskRequest::default() };
        let (mut client, mut backoff) = (TaskServiceClient::new(self.task.clone()), INITIAL_BACKOFF);
        for _ in 1..MAX_ATTEMPTS {
            match client.create_task(bearer(&self.token, request.clone())).await {
                Err(status) if status.code() == Code::Unavailable => sleep(backoff).await,
                outcome => return outcome.map(|task| task.into_inner().id),
            }
            backoff *= 2;
        }
        client.create_task(bearer(&self.token, request)).await.map(|task| task.into_inner().id)
    }

    /// Watches the tasks until one with the last title is reported, and returns the ids of all. Resumes with the last
    /// token whenever the stream is interrupted.
    async fn watch(self) -> HashSet<String> {
        let (mut seen, mut sync_token) = (HashSet::new(), String::new());
        loop {
            match self.follow(&mut seen, &mut sync_token).await {
                Ok(()) => return seen,
                Err(status) if status.code() == Code::Unavailable => sleep(INITIAL_BACKOFF).await,
                Err(status) => panic!("the watch ended with {status:?}"),
            }
        }
    }

    /// Follows one stream. Returns when it has reported a task with the last title.
    async fn follow(&self, seen: &mut HashSet<String>, sync_token: &mut String) -> Result<(), Status> {
        let request = bearer(&self.token, WatchTasksRequest { sync_token: sync_token.clone() });
        let mut stream = TaskServiceClient::new(self.task.clone()).watch_tasks(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            *sync_token = message.sync_token;
            let is_last = message.changes.iter().any(|change| change.task.iter().any(|task| task.title == LAST_TITLE));
            seen.extend(message.changes.into_iter().map(|change| change.id));
            if is_last {
                return Ok(());
            }
        }
        Err(Status::unavailable("the stream has ended"))
    }
}

/// Asserts that there were enough calls and that none failed, and returns what the calls returned.
fn all_succeeded<T>(outcomes: Vec<Result<T, Status>>) -> Vec<T> {
    let (calls, mut errors) = (outcomes.len(), Vec::new());
    let values =
        outcomes.into_iter().filter_map(|outcome| outcome.map_err(|status| errors.push(status)).ok()).collect();
    assert!(errors.is_empty() && calls >= CALLS, "{} of {calls} calls failed: {errors:?}", errors.len());
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_grpc_call_fails_and_no_change_is_missed_while_the_services_are_restarted() {
    let Some(mut services) = Services::start().await else { return };
    let [auth, task] = services.addresses.map(channel);
    let token = sign_up_and_log_in(&auth, "ann@example.com").await.access_token;
    let known = create(&task, &token, "Buy milk").await.expect("created");
    let client = Client { auth, task: task.clone(), token: token.clone(), stopped: CancellationToken::new() };
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(client.clone().read(known.id.clone()));
    }
    let (writer, watch) = (tokio::spawn(client.clone().write()), tokio::spawn(client.clone().watch()));
    restart_each(services.replicas()).await;
    client.stopped.cancel();
    let reads = all_succeeded(readers.join_all().await.concat());
    let created = all_succeeded(writer.await.expect("no panic"));
    report_value("calls", format_args!("{} reads, {} writes", reads.len(), created.len()));

    // A repeated call has not created a second task, and the watch has reported each of them.
    let last = create(&task, &token, LAST_TITLE).await.expect("created");
    let seen = timeout(CALL_TIMEOUT, watch).await.expect("the last change is reported").expect("no panic");
    let expected: HashSet<_> = created.into_iter().chain([known.id, last.id]).collect();
    assert_eq!(seen, expected);
}
