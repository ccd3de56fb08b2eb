//! The scenarios, and the users who make the calls.

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use http::HeaderValue;
use prost::Message;
use prost_types::FieldMask;
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, BatchWriteTasksResponse, CompleteTaskRequest, CreateTaskRequest, GetTaskRequest,
    ListTasksRequest, ReopenTaskRequest, Task, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write},
};

use crate::{
    client::{Call, Connection, encode_frame},
    echo,
    target::{Environment, retry},
    workload::Variables,
};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The baseline.
    Echo,
    Create,
    Get,
    #[value(name = "list20")]
    List20,
    #[value(name = "list50")]
    List50,
    Update,
    /// All tasks are completed, then all are reopened.
    Complete,
    /// Of 20 calls, 12 get a task, 6 list 20 tasks, 1 creates a task and 1 updates a task.
    Mixed,
    Watch,
}

impl Scenario {
    /// Reports whether the load consists of unary calls to taskey.
    pub(crate) fn is_unary(self) -> bool {
        !matches!(self, Self::Echo | Self::Watch)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Create => "create",
            Self::Get => "get",
            Self::List20 => "list(20)",
            Self::List50 => "list(50)",
            Self::Update => "update",
            Self::Complete => "complete",
            Self::Mixed => "mixed 90/10",
            Self::Watch => "watch",
        }
    }
}

/// A user with tasks.
pub(crate) struct User {
    pub(crate) authorization: HeaderValue,
    pub(crate) tasks: Vec<String>,
}

impl User {
    /// Returns the variables of a workload for each task.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variables> {
        let token =
            self.authorization.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        self.tasks
            .iter()
            .map(move |id| Variables::from([("token".to_owned(), token.to_owned()), ("id".to_owned(), id.clone())]))
    }
}

/// A connection, and the users who call over it.
pub(crate) struct Worker {
    pub(crate) connection: Connection,
    pub(crate) users: Vec<User>,
    turn: usize,
    /// The number of complete and reopen calls. A counter of its own, so that a task is never completed twice in a row.
    toggles: usize,
}

/// The numbers of connections, users and tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) connections: usize,
    pub(crate) users_per_connection: usize,
    pub(crate) tasks_per_user: usize,
}

impl Worker {
    /// Opens connections to a server and creates users. With `with_tasks`, creates their tasks as well.
    pub(crate) async fn create_all(
        environment: &Environment,
        address: std::net::SocketAddr,
        size: Size,
        with_tasks: bool,
    ) -> anyhow::Result<Vec<Self>> {
        let mut workers = Vec::new();
        for _ in 0..size.connections {
            let connection = Connection::open(address).await?;
            let mut users = Vec::new();
            for _ in 0..size.users_per_connection {
                let (id, authorization) = environment.new_user()?;
                let tasks = if with_tasks {
                    create_tasks(&connection, &authorization, size.tasks_per_user).await?
                } else {
                    vec![id.to_string(); size.tasks_per_user]
                };
                users.push(User { authorization, tasks });
            }
            workers.push(Self::new(connection, users));
        }
        Ok(workers)
    }

    pub(crate) fn new(connection: Connection, users: Vec<User>) -> Self {
        Self { connection, users, turn: 0, toggles: 0 }
    }

    /// Returns the next call.
    pub(crate) fn next(&mut self, scenario: Scenario) -> Call {
        self.turn += 1;
        let turn = self.turn;
        let user = &self.users[turn % self.users.len()];
        let id = || user.tasks[(turn / self.users.len()) % user.tasks.len()].clone();
        let call = |path, body| Call { path, authorization: user.authorization.clone(), body };
        match scenario {
            Scenario::Echo => call(echo::PATH, encode_frame(&GetTaskRequest { id: id() })),
            Scenario::Create => {
                let request = CreateTaskRequest { task: Some(task(turn)), ..CreateTaskRequest::default() };
                call("/taskey.task.v1.TaskService/CreateTask", encode_frame(&request))
            }
            Scenario::Get => call("/taskey.task.v1.TaskService/GetTask", encode_frame(&GetTaskRequest { id: id() })),
            Scenario::List20 => call("/taskey.task.v1.TaskService/ListTasks", list_tasks(20)),
            Scenario::List50 => call("/taskey.task.v1.TaskService/ListTasks", list_tasks(50)),
            Scenario::Update => update_title(user, id(), format!("{} again", task(turn).title)),
            Scenario::Complete => self.complete(),
            Scenario::Mixed => self.next(match turn % 20 {
                0..12 => Scenario::Get,
                12..18 => Scenario::List20,
                18 => Scenario::Create,
                _ => Scenario::Update,
            }),
            Scenario::Watch => unreachable!("a watch is not a unary call"),
        }
    }

    /// Returns the next call, which completes or reopens a task: first all tasks are completed, then all are reopened.
    fn complete(&mut self) -> Call {
        let turn = self.toggles;
        self.toggles += 1;
        let user = &self.users[turn % self.users.len()];
        let turn = turn / self.users.len();
        let id = user.tasks[turn % user.tasks.len()].clone();
        let (path, body) = if (turn / user.tasks.len()).is_multiple_of(2) {
            let request = CompleteTaskRequest { id, ..CompleteTaskRequest::default() };
            ("/taskey.task.v1.TaskService/CompleteTask", encode_frame(&request))
        } else {
            let request = ReopenTaskRequest { id, ..ReopenTaskRequest::default() };
            ("/taskey.task.v1.TaskService/ReopenTask", encode_frame(&request))
        };
        Call { path, authorization: user.authorization.clone(), body }
    }
}

/// Returns a call that changes the title of a task.
pub(crate) fn update_title(user: &User, id: String, title: String) -> Call {
    let request = UpdateTaskRequest {
        task: Some(Task { id, title, ..Task::default() }),
        update_mask: Some(FieldMask { paths: vec!["title".to_owned()] }),
        ..UpdateTaskRequest::default()
    };
    Call {
        path: "/taskey.task.v1.TaskService/UpdateTask",
        authorization: user.authorization.clone(),
        body: encode_frame(&request),
    }
}

fn list_tasks(page_size: i32) -> Bytes {
    encode_frame(&ListTasksRequest { page_size, ..ListTasksRequest::default() })
}

/// Returns a typical task.
fn task(number: usize) -> Task {
    Task {
        title: format!("Ring the plumber about tap {number}"),
        notes: "The one in the kitchen drips again. Ask what a new one costs, and whether he can come on a Friday."
            .into(),
        priority: i32::try_from(number % 4).unwrap_or(0),
        due_date: format!("2030-05-{:02}", 1 + number % 28),
        labels: vec!["home".to_owned(), format!("week-{}", number % 52)],
        ..Task::default()
    }
}

async fn create_tasks(
    connection: &Connection,
    authorization: &HeaderValue,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let create = |number| CreateTaskRequest { task: Some(task(number)), ..CreateTaskRequest::default() };
    let writes = (0..count).map(|number| Write { write: Some(write::Write::Create(create(number))) }).collect();
    let body = encode_frame(&BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() });
    let path = "/taskey.task.v1.TaskService/BatchWriteTasks";
    let call = Call { path, authorization: authorization.clone(), body };
    let response = retry(async || connection.call(call.clone()).await).await.context("cannot create the tasks")?;
    Ok(BatchWriteTasksResponse::decode(response)?.tasks.into_iter().map(|task| task.id).collect())
}
