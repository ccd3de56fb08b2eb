//! Helpers for moves, batches and task lists.

use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, GetTaskListRequest, ListTaskListsRequest, ListTaskListsResponse, ListTasksRequest,
    MoveTaskRequest, SkipOccurrenceRequest, StopRecurrenceRequest, Task, TaskList, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
};
use tonic::Status;

use crate::support::{User, titled};

type RpcResult<T> = Result<T, Status>;

/// Returns a request to move a task to a position.
pub(crate) fn to(id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { id: id.to_owned(), position: Some(position), ..MoveTaskRequest::default() }
}

/// Returns a request to move a task under another.
pub(crate) fn under(id: &str, parent_id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { parent_id: parent_id.to_owned(), ..to(id, position) }
}

/// Returns a request to move a task into a list.
pub(crate) fn into(id: &str, list_id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { list_id: list_id.to_owned(), ..to(id, position) }
}

pub(crate) fn before(task: &Task) -> Position {
    Position::BeforeId(task.id.clone())
}

pub(crate) fn after(task: &Task) -> Position {
    Position::AfterId(task.id.clone())
}

/// Returns a write for [`batch`]; so do the next functions.
pub(crate) fn create(task: Task) -> Kind {
    Kind::Create(CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() })
}

pub(crate) fn rename(id: &str, title: &str) -> Kind {
    let task = Task { id: id.to_owned(), ..titled(title) };
    Kind::Update(UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() })
}

pub(crate) fn complete(id: &str) -> Kind {
    Kind::Complete(CompleteTaskRequest { id: id.to_owned(), ..CompleteTaskRequest::default() })
}

pub(crate) fn skip(id: &str) -> Kind {
    Kind::SkipOccurrence(SkipOccurrenceRequest { id: id.to_owned(), ..SkipOccurrenceRequest::default() })
}

pub(crate) fn stop(id: &str) -> Kind {
    Kind::StopRecurrence(StopRecurrenceRequest { id: id.to_owned(), ..StopRecurrenceRequest::default() })
}

pub(crate) fn delete(id: &str) -> Kind {
    Kind::Delete(DeleteTaskRequest { id: id.to_owned(), ..DeleteTaskRequest::default() })
}

/// Returns a batch of writes.
pub(crate) fn batch(writes: impl IntoIterator<Item = Kind>) -> BatchWriteTasksRequest {
    let writes = writes.into_iter().map(|write| Write { write: Some(write) }).collect();
    BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() }
}

impl User {
    pub(crate) async fn move_task(&self, request: MoveTaskRequest) -> RpcResult<Task> {
        Ok(self.client.clone().move_task(request).await?.into_inner())
    }

    pub(crate) async fn batch(&self, writes: impl IntoIterator<Item = Kind>) -> RpcResult<Vec<Task>> {
        Ok(self.client.clone().batch_write_tasks(batch(writes)).await?.into_inner().tasks)
    }

    /// Creates a subtask.
    pub(crate) async fn make_subtask(&self, parent: &Task, title: &str) -> Task {
        let task = Task { parent_id: parent.id.clone(), ..titled(title) };
        self.create(task).await.expect("the subtask is created")
    }

    /// Creates a top-level task in a list.
    pub(crate) async fn make_in(&self, list: &TaskList, title: &str) -> Task {
        let task = Task { list_id: list.id.clone(), ..titled(title) };
        self.create(task).await.expect("the task is created")
    }

    /// Returns all tasks, ordered by rank.
    pub(crate) async fn tasks_by_rank(&self, show_deleted: bool) -> Vec<Task> {
        let mut tasks = Vec::new();
        let order_by = "rank".to_owned();
        let mut request = ListTasksRequest { page_size: 500, order_by, show_deleted, ..ListTasksRequest::default() };
        loop {
            let page = self.list(request.clone()).await.expect("a page");
            tasks.extend(page.tasks);
            if page.next_page_token.is_empty() {
                return tasks;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Returns the titles of the active top-level tasks of a list, in order.
    pub(crate) async fn top_level_titles(&self, list_id: &str) -> Vec<String> {
        let tasks = self.tasks_by_rank(false).await.into_iter();
        tasks.filter(|task| task.list_id == list_id && task.parent_id.is_empty()).map(|task| task.title).collect()
    }

    /// Returns the titles of the active direct subtasks of a task, in order.
    pub(crate) async fn subtask_titles(&self, parent: &Task) -> Vec<String> {
        let tasks = self.tasks_by_rank(false).await.into_iter();
        tasks.filter(|task| task.parent_id == parent.id).map(|task| task.title).collect()
    }

    pub(crate) async fn create_list(&self, title: &str) -> RpcResult<TaskList> {
        let task_list = Some(TaskList { title: title.to_owned(), ..TaskList::default() });
        let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
        Ok(self.lists.clone().create_task_list(request).await?.into_inner())
    }

    pub(crate) async fn make_list(&self, title: &str) -> TaskList {
        self.create_list(title).await.expect("the list is created")
    }

    pub(crate) async fn get_list(&self, id: &str) -> RpcResult<TaskList> {
        Ok(self.lists.clone().get_task_list(GetTaskListRequest { id: id.to_owned() }).await?.into_inner())
    }

    /// Deletes a list. Its tasks move to another list, or are deleted if `move_tasks_to` is empty.
    pub(crate) async fn delete_list(&self, id: &str, move_tasks_to: &str) -> RpcResult<TaskList> {
        let (id, move_tasks_to) = (id.to_owned(), move_tasks_to.to_owned());
        let request = DeleteTaskListRequest { id, move_tasks_to, ..DeleteTaskListRequest::default() };
        Ok(self.lists.clone().delete_task_list(request).await?.into_inner())
    }

    pub(crate) async fn list_lists(&self, page_size: i32, page_token: &str) -> RpcResult<ListTaskListsResponse> {
        let request = ListTaskListsRequest { page_size, page_token: page_token.to_owned() };
        Ok(self.lists.clone().list_task_lists(request).await?.into_inner())
    }
}
