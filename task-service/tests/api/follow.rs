//! Clients that follow the changes of a user's tasks, with `ListTaskChanges` or `WatchTasks`.

use std::collections::BTreeMap;

use taskey_proto::task::v1::{
    ListTaskChangesRequest, ListTaskChangesResponse, ListTasksRequest, Task, TaskChange, TaskList, TaskListChange,
    WatchTasksRequest, WatchTasksResponse,
};
use tokio::time::timeout;
use tonic::{Request, Status, Streaming};

use crate::support::{User, WAIT_TIMEOUT};

/// A stream of changes.
pub(crate) type Watch = Streaming<WatchTasksResponse>;

impl User {
    /// Returns a page of the changes since a token.
    pub(crate) async fn changes(&self, token: &str, page_size: i32) -> Result<ListTaskChangesResponse, Status> {
        let request = ListTaskChangesRequest { sync_token: token.to_owned(), page_size };
        Ok(self.client.clone().list_task_changes(request).await?.into_inner())
    }

    /// Returns the ids of the tasks that changed since a token, and the next token.
    pub(crate) async fn changed_ids(&self, token: &str) -> (Vec<String>, String) {
        let page = self.changes(token, 500).await.expect("a page");
        assert!(!page.has_more);
        (page.changes.into_iter().map(|change| change.id).collect(), page.next_sync_token)
    }

    /// Returns a sync token from after all changes so far.
    pub(crate) async fn current_sync_token(&self) -> String {
        let mut copy = LocalCopy::default();
        copy.pull(self, 500).await.expect("changes");
        copy.token
    }

    pub(crate) async fn watch(&self, token: &str) -> Result<Watch, Status> {
        let request = WatchTasksRequest { sync_token: token.to_owned() };
        Ok(self.client.clone().watch_tasks(request).await?.into_inner())
    }

    /// Returns a request with this user's token, for other clients than `self.client`.
    pub(crate) fn authenticated<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.header().parse().expect("a token is ASCII"));
        request
    }

    /// Returns a new id.
    pub(crate) fn new_id(&self) -> String {
        self.clock().new_id().to_string()
    }

    /// Returns all lists by id, as `ListTaskLists` returns them.
    pub(crate) async fn all_lists(&self) -> BTreeMap<String, TaskList> {
        let page = self.list_lists(500, "").await.expect("a page");
        assert_eq!(page.next_page_token, "");
        page.task_lists.into_iter().map(|list| (list.id.clone(), list)).collect()
    }

    /// Returns all tasks by id, as `ListTasks` returns them, including the deleted ones.
    pub(crate) async fn all_tasks(&self) -> BTreeMap<String, Task> {
        let mut tasks = BTreeMap::new();
        let mut request = ListTasksRequest { page_size: 500, show_deleted: true, ..ListTasksRequest::default() };
        loop {
            let page = self.list(request.clone()).await.expect("a page");
            tasks.extend(page.tasks.into_iter().map(|task| (task.id.clone(), task)));
            if page.next_page_token.is_empty() {
                return tasks;
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// Returns the next message of a stream.
pub(crate) async fn next(watch: &mut Watch) -> Result<WatchTasksResponse, Status> {
    let message = timeout(WAIT_TIMEOUT, watch.message()).await.expect("a message arrives in time")?;
    Ok(message.expect("a watch ends with a status"))
}

/// Reads a stream to its end and returns its status.
pub(crate) async fn end(watch: &mut Watch) -> Result<(), Status> {
    loop {
        next(watch).await?;
    }
}

/// The tasks and lists of a user as a client rebuilds them from changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalCopy {
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) lists: BTreeMap<String, TaskList>,
    /// The sync token for the next request.
    pub(crate) token: String,
}

impl LocalCopy {
    /// Applies a page of changes.
    pub(crate) fn apply_page(&mut self, page: ListTaskChangesResponse) {
        self.apply(page.changes, page.list_changes, page.next_sync_token);
    }

    /// Applies a message of a stream.
    pub(crate) fn apply_message(&mut self, message: WatchTasksResponse) {
        self.apply(message.changes, message.list_changes, message.sync_token);
    }

    fn apply(&mut self, changes: Vec<TaskChange>, list_changes: Vec<TaskListChange>, token: String) {
        for TaskListChange { id, task_list, removed } in list_changes {
            assert!(task_list.as_ref().is_none_or(|list| list.id == id));
            apply_change(&mut self.lists, id, task_list, removed);
        }
        for TaskChange { id, task, removed } in changes {
            assert!(task.as_ref().is_none_or(|task| task.id == id));
            apply_change(&mut self.tasks, id, task, removed);
        }
        self.token = token;
    }

    /// Requests changes until there are no more.
    pub(crate) async fn pull(&mut self, user: &User, page_size: i32) -> Result<(), Status> {
        loop {
            let page = user.changes(&self.token, page_size).await?;
            let has_more = page.has_more;
            self.apply_page(page);
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Applies the next message of a stream and reports whether it was a checkpoint.
    pub(crate) async fn receive(&mut self, watch: &mut Watch) -> Result<bool, Status> {
        let message = next(watch).await?;
        let is_checkpoint = message.checkpoint;
        self.apply_message(message);
        Ok(is_checkpoint)
    }

    /// Applies messages until this copy equals `tasks`.
    pub(crate) async fn receive_until(&mut self, watch: &mut Watch, tasks: &BTreeMap<String, Task>) {
        while self.tasks != *tasks {
            self.receive(watch).await.expect("the watch continues");
        }
    }
}

fn apply_change<T>(copy: &mut BTreeMap<String, T>, id: String, current: Option<T>, removed: bool) {
    assert_eq!(current.is_none(), removed, "a change has either a task or list, or `removed`");
    match current {
        Some(current) => copy.insert(id, current),
        None => copy.remove(&id),
    };
}
