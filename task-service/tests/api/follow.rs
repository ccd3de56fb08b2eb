//! Those who follow the changes of a user's tasks, by asking for them or by watching.

use std::collections::BTreeMap;

use taskey_proto::task::v1::{
    ListTaskChangesRequest, ListTaskChangesResponse, ListTasksRequest, Task, TaskChange, WatchTasksRequest,
    WatchTasksResponse,
};
use tokio::time::timeout;
use tonic::{Request, Status, Streaming};

use crate::support::{PATIENCE, User};

/// A stream of changes.
pub(crate) type Watch = Streaming<WatchTasksResponse>;

impl User {
    /// A page of what has changed since a token.
    pub(crate) async fn changes(&self, token: &str, page_size: i32) -> Result<ListTaskChangesResponse, Status> {
        let request = ListTaskChangesRequest { sync_token: token.to_owned(), page_size };
        Ok(self.client.clone().list_task_changes(request).await?.into_inner())
    }

    /// What has changed since a token, as the ids of tasks, and the next token.
    pub(crate) async fn changed(&self, token: &str) -> (Vec<String>, String) {
        let page = self.changes(token, 500).await.expect("a page");
        assert!(!page.has_more);
        (page.changes.into_iter().map(|change| change.id).collect(), page.next_sync_token)
    }

    /// The token of one who knows all that has happened.
    pub(crate) async fn caught_up(&self) -> String {
        let mut known = Known::default();
        known.pull(self, 500).await.expect("changes");
        known.token
    }

    pub(crate) async fn watch(&self, token: &str) -> Result<Watch, Status> {
        let request = WatchTasksRequest { sync_token: token.to_owned() };
        Ok(self.client.clone().watch_tasks(request).await?.into_inner())
    }

    /// A call of another service.
    pub(crate) fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.header().parse().expect("a token is ASCII"));
        request
    }

    /// An id that nobody has had before.
    pub(crate) fn new_id(&self) -> String {
        self.clock().new_id().to_string()
    }

    /// All tasks by their ids, the deleted ones too, as lists show them.
    pub(crate) async fn everything(&self) -> BTreeMap<String, Task> {
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

/// The next message of a stream.
pub(crate) async fn next(watch: &mut Watch) -> Result<WatchTasksResponse, Status> {
    let message = timeout(PATIENCE, watch.message()).await.expect("there is something to tell in time")?;
    Ok(message.expect("a watch ends with a reason"))
}

/// What a stream ends with.
pub(crate) async fn end(watch: &mut Watch) -> Result<(), Status> {
    loop {
        next(watch).await?;
    }
}

/// What one who follows the changes knows of the tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Asks for what comes next.
    pub(crate) token: String,
}

impl Known {
    /// Learns what has changed.
    pub(crate) fn learn(&mut self, changes: Vec<TaskChange>, token: String) {
        for TaskChange { id, task, removed } in changes {
            assert_eq!(task.is_none(), removed, "it is there or gone");
            match task {
                Some(task) => {
                    assert_eq!(task.id, id);
                    self.tasks.insert(id, task);
                }
                None => {
                    self.tasks.remove(&id);
                }
            }
        }
        self.token = token;
    }

    /// Asks for changes until there are no more.
    pub(crate) async fn pull(&mut self, user: &User, page_size: i32) -> Result<(), Status> {
        loop {
            let page = user.changes(&self.token, page_size).await?;
            self.learn(page.changes, page.next_sync_token);
            if !page.has_more {
                return Ok(());
            }
        }
    }

    /// Takes the next message of a stream, and says whether it was a checkpoint.
    pub(crate) async fn hear(&mut self, watch: &mut Watch) -> Result<bool, Status> {
        let message = next(watch).await?;
        self.learn(message.changes, message.sync_token);
        Ok(message.checkpoint)
    }

    /// Takes messages until all that has been told adds up to what lists show.
    pub(crate) async fn hear_until(&mut self, watch: &mut Watch, tasks: &BTreeMap<String, Task>) {
        while self.tasks != *tasks {
            self.hear(watch).await.expect("the watch goes on");
        }
    }
}
