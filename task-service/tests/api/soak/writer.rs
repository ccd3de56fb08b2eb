//! A client that makes random writes to tasks and lists.

use std::sync::{Mutex, PoisonError};

use service_kit::testing::refusal;
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, MoveTaskRequest, ReopenTaskRequest, Task, TaskList, UndeleteTaskRequest, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
    task_list_service_client::TaskListServiceClient,
};
use tonic::{Response, Status, transport::Channel};

use crate::{
    proxy::any,
    retries::retry,
    support::{User, titled},
};

/// The ids of the tasks and lists created so far.
#[derive(Default)]
pub(super) struct Ids {
    tasks: Mutex<Vec<String>>,
    lists: Mutex<Vec<String>>,
}

fn add_ids(ids: &Mutex<Vec<String>>, more: impl IntoIterator<Item = String>) {
    ids.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
}

/// Returns a random id, or occasionally an empty string.
fn random_id(ids: &Mutex<Vec<String>>) -> String {
    let ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
    let index = any(0..=u64::try_from(ids.len()).expect("few"));
    usize::try_from(index).ok().and_then(|index| ids.get(index)).cloned().unwrap_or_default()
}

pub(super) struct Writer<'a> {
    pub(super) user: User,
    pub(super) channel: Channel,
    pub(super) ids: &'a Ids,
}

impl Writer<'_> {
    /// Makes a call and retries it until it gets a response. Ignores errors that other writers can cause.
    async fn call<T, F: Future<Output = Result<Response<T>, Status>>>(&self, call: impl Fn() -> F) -> Option<T> {
        loop {
            let status = match retry(&call).await {
                Ok(response) => return Some(response.into_inner()),
                Err(status) => status,
            };
            match &*refusal(&status).1 {
                "TOKEN_EXPIRED" => {}
                "TASK_NOT_FOUND" | "LIST_NOT_FOUND" | "VALIDATION_FAILED" => return None,
                _ => panic!("{status:?}"),
            }
        }
    }

    pub(super) async fn write_at_random(&self) {
        let client = || self.user.client.clone();
        let (id, request_id) = (random_id(&self.ids.tasks), self.user.new_id());
        match any(0..=13) {
            0..=3 => {
                let request = CreateTaskRequest { request_id, ..self.random_creation() };
                let task = self.call(|| async { client().create_task(request.clone()).await }).await;
                add_ids(&self.ids.tasks, task.map(|task| task.id));
            }
            4 | 5 => {
                let request = BatchWriteTasksRequest { writes: self.random_batch(), request_id, validate_only: false };
                let response = self.call(|| async { client().batch_write_tasks(request.clone()).await }).await;
                let tasks = response.into_iter().flat_map(|response| response.tasks);
                add_ids(&self.ids.tasks, tasks.map(|task| task.id).filter(|id| !id.is_empty()));
            }
            6 | 7 => {
                let request = UndeleteTaskRequest { id, request_id, ..UndeleteTaskRequest::default() };
                self.call(|| async { client().undelete_task(request.clone()).await }).await;
            }
            8 | 9 => {
                let request = MoveTaskRequest { request_id, ..self.random_move(id) };
                self.call(|| async { client().move_task(request.clone()).await }).await;
            }
            10 => {
                let request = DeleteTaskRequest { id, request_id, ..DeleteTaskRequest::default() };
                self.call(|| async { client().delete_task(request.clone()).await }).await;
            }
            11 => {
                let request = CompleteTaskRequest { id, request_id, ..CompleteTaskRequest::default() };
                self.call(|| async { client().complete_task(request.clone()).await }).await;
            }
            12 => self.make_list(request_id).await,
            _ => self.delete_list(request_id).await,
        }
    }

    async fn make_list(&self, request_id: String) {
        let list = TaskList { title: "Shopping".to_owned(), ..TaskList::default() };
        let request = CreateTaskListRequest { task_list: Some(list), request_id, validate_only: false };
        let client = || TaskListServiceClient::new(self.channel.clone());
        let list =
            self.call(|| async { client().create_task_list(self.user.authenticated(request.clone())).await }).await;
        add_ids(&self.ids.lists, list.map(|list| list.id));
    }

    async fn delete_list(&self, request_id: String) {
        let move_tasks_to = if any(0..=1) == 0 { random_id(&self.ids.lists) } else { String::new() };
        let id = random_id(&self.ids.lists);
        let request = DeleteTaskListRequest { id, move_tasks_to, request_id, ..DeleteTaskListRequest::default() };
        let client = || TaskListServiceClient::new(self.channel.clone());
        self.call(|| async { client().delete_task_list(self.user.authenticated(request.clone())).await }).await;
    }

    /// Returns a task creation: at the top level, in a random list or under a random task.
    fn random_creation(&self) -> CreateTaskRequest {
        let task = match any(0..=2) {
            0 => Task { parent_id: random_id(&self.ids.tasks), ..titled("Buy milk") },
            1 => Task { list_id: random_id(&self.ids.lists), ..titled("Buy oats") },
            _ => titled("Buy tea"),
        };
        CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
    }

    fn random_move(&self, id: String) -> MoveTaskRequest {
        let position = match any(0..=3) {
            0 => Position::First(true),
            1 => Position::BeforeId(random_id(&self.ids.tasks)),
            2 => Position::AfterId(random_id(&self.ids.tasks)),
            _ => Position::Last(true),
        };
        let mut request = MoveTaskRequest { id, position: Some(position), ..MoveTaskRequest::default() };
        match any(0..=2) {
            0 => request.parent_id = random_id(&self.ids.tasks),
            1 => request.list_id = random_id(&self.ids.lists),
            _ => {}
        }
        request
    }

    fn random_batch(&self) -> Vec<Write> {
        let write = |_| {
            let id = random_id(&self.ids.tasks);
            Write {
                write: Some(match any(0..=8) {
                    0 => Kind::Update(UpdateTaskRequest {
                        task: Some(Task { id, ..titled("Buy soy") }),
                        ..UpdateTaskRequest::default()
                    }),
                    1 => Kind::Delete(DeleteTaskRequest { id, allow_missing: true, ..DeleteTaskRequest::default() }),
                    2 => Kind::Reopen(ReopenTaskRequest { id, ..ReopenTaskRequest::default() }),
                    3 => Kind::Move(self.random_move(id)),
                    4 => Kind::Complete(CompleteTaskRequest { id, ..CompleteTaskRequest::default() }),
                    _ => Kind::Create(self.random_creation()),
                }),
            }
        };
        (0..any(1..=4)).map(write).collect()
    }
}
