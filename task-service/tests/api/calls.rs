//! Calls that move tasks, do several things at once, and make lists.

use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, GetTaskListRequest, ListTaskListsRequest, ListTaskListsResponse, ListTasksRequest,
    MoveTaskRequest, Task, TaskList, UpdateTaskRequest,
    batch_write_tasks_request::{Write, write::Write as Kind},
    move_task_request::Position,
};
use tonic::Status;

use crate::support::{User, titled};

type Answer<T> = Result<T, Status>;

/// A move of a task to a place in its list.
pub(crate) fn to(id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { id: id.to_owned(), position: Some(position), ..MoveTaskRequest::default() }
}

/// A move of a task under another.
pub(crate) fn under(id: &str, parent_id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { parent_id: parent_id.to_owned(), ..to(id, position) }
}

/// A move of a task into a list.
pub(crate) fn into(id: &str, list_id: &str, position: Position) -> MoveTaskRequest {
    MoveTaskRequest { list_id: list_id.to_owned(), ..to(id, position) }
}

pub(crate) fn before(task: &Task) -> Position {
    Position::BeforeId(task.id.clone())
}

pub(crate) fn after(task: &Task) -> Position {
    Position::AfterId(task.id.clone())
}

/// Writes of a batch.
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

pub(crate) fn delete(id: &str) -> Kind {
    Kind::Delete(DeleteTaskRequest { id: id.to_owned(), ..DeleteTaskRequest::default() })
}

/// A batch of writes.
pub(crate) fn batch(writes: impl IntoIterator<Item = Kind>) -> BatchWriteTasksRequest {
    let writes = writes.into_iter().map(|write| Write { write: Some(write) }).collect();
    BatchWriteTasksRequest { writes, ..BatchWriteTasksRequest::default() }
}

impl User {
    pub(crate) async fn move_task(&self, request: MoveTaskRequest) -> Answer<Task> {
        Ok(self.client.clone().move_task(request).await?.into_inner())
    }

    pub(crate) async fn batch(&self, writes: impl IntoIterator<Item = Kind>) -> Answer<Vec<Task>> {
        Ok(self.client.clone().batch_write_tasks(batch(writes)).await?.into_inner().tasks)
    }

    /// Makes a task that is a part of another.
    pub(crate) async fn make_part(&self, parent: &Task, title: &str) -> Task {
        let task = Task { parent_id: parent.id.clone(), ..titled(title) };
        self.create(task).await.expect("a part is made")
    }

    /// Makes a task at the top of a list.
    pub(crate) async fn make_in(&self, list: &TaskList, title: &str) -> Task {
        let task = Task { list_id: list.id.clone(), ..titled(title) };
        self.create(task).await.expect("a task is made")
    }

    /// All tasks, in the order of their ranks.
    pub(crate) async fn ranked(&self, show_deleted: bool) -> Vec<Task> {
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

    /// The titles of the live tasks at the top of a list, in their order.
    pub(crate) async fn top(&self, list_id: &str) -> Vec<String> {
        let tasks = self.ranked(false).await.into_iter();
        tasks.filter(|task| task.list_id == list_id && task.parent_id.is_empty()).map(|task| task.title).collect()
    }

    /// The titles of the live tasks directly under another, in their order.
    pub(crate) async fn parts(&self, parent: &Task) -> Vec<String> {
        let tasks = self.ranked(false).await.into_iter();
        tasks.filter(|task| task.parent_id == parent.id).map(|task| task.title).collect()
    }

    pub(crate) async fn create_list(&self, title: &str) -> Answer<TaskList> {
        let task_list = Some(TaskList { title: title.to_owned(), ..TaskList::default() });
        let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
        Ok(self.lists.clone().create_task_list(request).await?.into_inner())
    }

    pub(crate) async fn make_list(&self, title: &str) -> TaskList {
        self.create_list(title).await.expect("a list is made")
    }

    pub(crate) async fn get_list(&self, id: &str) -> Answer<TaskList> {
        Ok(self.lists.clone().get_task_list(GetTaskListRequest { id: id.to_owned() }).await?.into_inner())
    }

    /// Deletes a list, whose tasks go into another, or are deleted if `move_tasks_to` is empty.
    pub(crate) async fn delete_list(&self, id: &str, move_tasks_to: &str) -> Answer<TaskList> {
        let (id, move_tasks_to) = (id.to_owned(), move_tasks_to.to_owned());
        let request = DeleteTaskListRequest { id, move_tasks_to, ..DeleteTaskListRequest::default() };
        Ok(self.lists.clone().delete_task_list(request).await?.into_inner())
    }

    pub(crate) async fn list_lists(&self, page_size: i32, page_token: &str) -> Answer<ListTaskListsResponse> {
        let request = ListTaskListsRequest { page_size, page_token: page_token.to_owned() };
        Ok(self.lists.clone().list_task_lists(request).await?.into_inner())
    }
}
