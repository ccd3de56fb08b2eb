//! What is attacked, and the account of the attacker.

use std::{net::Ipv4Addr, sync::Mutex, time::Duration};

use taskey_proto::{
    auth::v1::TokenPair,
    task::v1::{
        BatchWriteTasksRequest, CreateTaskRequest, Task,
        batch_write_tasks_request::{Write, write},
        task_service_client::TaskServiceClient,
    },
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::{
    faults::{
        ledger::lock,
        soak::client::{Addresses, channel_from},
        users::{log_in, sign_up_and_log_in},
    },
    process::bearer,
};

/// The address of the attacker.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// The account of the attacker.
const EMAIL: &str = "mallory@example.com";

/// The tasks with long notes, and the children of one task. Debug builds are too slow for more.
const LARGE_TASKS: usize = if cfg!(debug_assertions) { 100 } else { 400 };
const CHILDREN: usize = if cfg!(debug_assertions) { 300 } else { 3000 };

/// The access token is replaced after this time. It is valid for 5 minutes.
const TOKEN_AGE: Duration = Duration::from_secs(120);

pub struct Target {
    pub addresses: Addresses,
    /// The email address of an honest user, whose password the attacker guesses.
    pub victim: String,
    /// A task with many children.
    pub parent_id: String,
    session: Mutex<(TokenPair, Instant)>,
}

impl Target {
    /// Signs up the attacker, and creates tasks.
    pub async fn prepare(addresses: Addresses, victim: String) -> Self {
        let auth = channel_from(SOURCE, addresses.auth[0]);
        let pair = sign_up_and_log_in(&auth, EMAIL).await;
        let task = channel_from(SOURCE, addresses.task[0]);
        let token = &pair.access_token;
        let large = Task { title: "large".to_owned(), notes: "lorem ipsum ".repeat(250), ..Task::default() };
        create(&task, token, &large, LARGE_TASKS).await;
        let parent = Task { title: "parent".to_owned(), ..Task::default() };
        let parent_id = create(&task, token, &parent, 1).await;
        let child = Task { title: "child".to_owned(), parent_id: parent_id.clone(), ..Task::default() };
        create(&task, token, &child, CHILDREN).await;
        Self { addresses, victim, parent_id, session: Mutex::new((pair, Instant::now())) }
    }

    /// Logs in again if the access token is old. An error is left for the next attack.
    pub async fn renew_token(&self) {
        let is_old = lock(&self.session).1.elapsed() > TOKEN_AGE;
        if is_old && let Ok(pair) = log_in(&self.auth(), EMAIL).await {
            *lock(&self.session) = (pair, Instant::now());
        }
    }

    pub fn token(&self) -> String {
        lock(&self.session).0.access_token.clone()
    }

    /// Returns a new connection to auth-service.
    pub fn auth(&self) -> Channel {
        channel_from(SOURCE, self.addresses.auth[0])
    }

    /// Returns a new connection to task-service.
    pub fn task(&self) -> Channel {
        channel_from(SOURCE, self.addresses.task[0])
    }

    /// Returns a new connection to each replica of task-service.
    pub fn tasks(&self) -> Vec<Channel> {
        self.addresses.task.iter().map(|address| channel_from(SOURCE, *address)).collect()
    }

    /// Returns a new connection to the gateway.
    pub fn gateway(&self) -> Channel {
        channel_from(SOURCE, self.addresses.gateway)
    }
}

/// Waits between two actions: one client cannot send everything at once.
pub async fn pause() {
    sleep(Duration::from_millis(5)).await;
}

/// Creates tasks in batches that a message may contain. Returns the id of the last one.
async fn create(channel: &Channel, token: &str, task: &Task, count: usize) -> String {
    let mut last = String::new();
    let mut remaining = count;
    while remaining > 0 {
        let batch = remaining.min(50);
        let create = CreateTaskRequest { task: Some(task.clone()), ..CreateTaskRequest::default() };
        let writes = vec![Write { write: Some(write::Write::Create(create)) }; batch];
        let request = BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() };
        let response = TaskServiceClient::new(channel.clone()).batch_write_tasks(bearer(token, request)).await;
        let mut tasks = response.expect("the attacker's tasks are created").into_inner().tasks;
        last = tasks.pop().expect("a task per write").id;
        remaining -= batch;
    }
    last
}
