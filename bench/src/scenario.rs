//! What is asked: the scenarios, and the users who ask.

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
    client::{Call, Connection, framed},
    echo,
    target::{Ground, patiently},
};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The yardstick.
    Echo,
    Create,
    Get,
    #[value(name = "list20")]
    List20,
    #[value(name = "list50")]
    List50,
    Update,
    /// Tasks are completed and reopened by turns.
    Complete,
    /// Of twenty calls twelve get, six list twenty tasks, one creates, one updates.
    Mixed,
    Watch,
}

impl Scenario {
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

/// A connection, and the users who call over it.
pub(crate) struct Worker {
    pub(crate) connection: Connection,
    pub(crate) users: Vec<User>,
    turn: usize,
    /// Counts on its own, so that a task is never completed twice in a row.
    completed: usize,
}

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) connections: usize,
    pub(crate) users_each: usize,
    /// Tasks of a user.
    pub(crate) tasks: usize,
}

impl Worker {
    /// Opens the connections to a server, and makes users; and their tasks, if it is task-service.
    pub(crate) async fn several(
        ground: &Ground,
        address: std::net::SocketAddr,
        size: Size,
        with_tasks: bool,
    ) -> anyhow::Result<Vec<Self>> {
        let mut workers = Vec::new();
        for _ in 0..size.connections {
            let connection = Connection::open(address).await?;
            let mut users = Vec::new();
            for _ in 0..size.users_each {
                let (id, authorization) = ground.user()?;
                let tasks = if with_tasks {
                    make_tasks(&connection, &authorization, size.tasks).await?
                } else {
                    vec![id.to_string(); size.tasks]
                };
                users.push(User { authorization, tasks });
            }
            workers.push(Self { connection, users, turn: 0, completed: 0 });
        }
        Ok(workers)
    }

    /// The next call.
    pub(crate) fn next(&mut self, scenario: Scenario) -> Call {
        self.turn += 1;
        let turn = self.turn;
        let user = &self.users[turn % self.users.len()];
        let id = || user.tasks[(turn / self.users.len()) % user.tasks.len()].clone();
        let call = |path, body| Call { path, authorization: user.authorization.clone(), body };
        match scenario {
            Scenario::Echo => call(echo::PATH, framed(&GetTaskRequest { id: id() })),
            Scenario::Create => {
                let request = CreateTaskRequest { task: Some(task(turn)), ..CreateTaskRequest::default() };
                call("/taskey.task.v1.TaskService/CreateTask", framed(&request))
            }
            Scenario::Get => call("/taskey.task.v1.TaskService/GetTask", framed(&GetTaskRequest { id: id() })),
            Scenario::List20 => call("/taskey.task.v1.TaskService/ListTasks", list(20)),
            Scenario::List50 => call("/taskey.task.v1.TaskService/ListTasks", list(50)),
            Scenario::Update => retitle(user, id(), format!("{} again", task(turn).title)),
            Scenario::Complete => self.complete(),
            Scenario::Mixed => self.next(match turn % 20 {
                0..12 => Scenario::Get,
                12..18 => Scenario::List20,
                18 => Scenario::Create,
                _ => Scenario::Update,
            }),
            Scenario::Watch => unreachable!("it is no call that is answered once"),
        }
    }

    /// Completes all tasks one after the other, and then reopens them.
    fn complete(&mut self) -> Call {
        let turn = self.completed;
        self.completed += 1;
        let user = &self.users[turn % self.users.len()];
        let turn = turn / self.users.len();
        let id = user.tasks[turn % user.tasks.len()].clone();
        let (path, body) = if (turn / user.tasks.len()).is_multiple_of(2) {
            let request = CompleteTaskRequest { id, ..CompleteTaskRequest::default() };
            ("/taskey.task.v1.TaskService/CompleteTask", framed(&request))
        } else {
            let request = ReopenTaskRequest { id, ..ReopenTaskRequest::default() };
            ("/taskey.task.v1.TaskService/ReopenTask", framed(&request))
        };
        Call { path, authorization: user.authorization.clone(), body }
    }
}

/// Gives a task another title.
pub(crate) fn retitle(user: &User, id: String, title: String) -> Call {
    let request = UpdateTaskRequest {
        task: Some(Task { id, title, ..Task::default() }),
        update_mask: Some(FieldMask { paths: vec!["title".to_owned()] }),
        ..UpdateTaskRequest::default()
    };
    Call {
        path: "/taskey.task.v1.TaskService/UpdateTask",
        authorization: user.authorization.clone(),
        body: framed(&request),
    }
}

fn list(page_size: i32) -> Bytes {
    framed(&ListTasksRequest { page_size, ..ListTasksRequest::default() })
}

/// A task as people have them.
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

async fn make_tasks(connection: &Connection, authorization: &HeaderValue, count: usize) -> anyhow::Result<Vec<String>> {
    let create = |number| CreateTaskRequest { task: Some(task(number)), ..CreateTaskRequest::default() };
    let writes = (0..count).map(|number| Write { write: Some(write::Write::Create(create(number))) }).collect();
    let body = framed(&BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() });
    let path = "/taskey.task.v1.TaskService/BatchWriteTasks";
    let call = Call { path, authorization: authorization.clone(), body };
    let answer = patiently(async || connection.call(call.clone()).await).await.context("the first tasks")?;
    Ok(BatchWriteTasksResponse::decode(answer)?.tasks.into_iter().map(|task| task.id).collect())
}
