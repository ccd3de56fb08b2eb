//! Executes calls as a user of one service. Ids in the outcomes are replaced by numbers, so that the outcomes of all
//! engines can be compared.

use service_kit::{clock::Timestamp, testing::refusal};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, ListTaskListsRequest, ListTasksRequest, MoveTaskRequest, ReopenTaskRequest,
    SkipOccurrenceRequest, StopRecurrenceRequest, Task, TaskList, UpdateTaskListRequest, UpdateTaskRequest,
    batch_write_tasks_request::{Write as PbWrite, write::Write as Kind},
    task_list_service_client::TaskListServiceClient,
};
use tonic::{Code, Response, Status, metadata::MetadataMap, transport::Channel};

use super::{
    call::{Call, Etag, Number, Write, WriteMode},
    listing::Listing,
    wire::{UNKNOWN_ETAG, etag_text},
};
use crate::{
    follow::LocalCopy,
    support::{Service, User},
};

/// The result of a call, with numbers instead of ids.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Tasks(Vec<Task>),
    Lists(Vec<TaskList>),
    /// The code, the reason, the invalid fields and the message.
    Refused(Code, String, Vec<String>, String),
}

pub(super) struct Engine {
    user: User,
    lists: TaskListServiceClient<Channel>,
    /// The tasks and lists, rebuilt from the changes.
    pub(super) copy: LocalCopy,
    pub(super) task_ids: Vec<String>,
    pub(super) list_ids: Vec<String>,
}

type RpcResult<T> = Result<T, Status>;

impl Engine {
    pub(super) fn new(service: &Service, user: &User) -> Self {
        let (user, lists) = (user.connected_to(service), TaskListServiceClient::new(service.channel.clone()));
        let list_ids = vec![user.id.to_string()];
        Self { user, lists, copy: LocalCopy::default(), task_ids: Vec::new(), list_ids }
    }

    /// Makes a call and records the ids of the tasks and lists that it created.
    pub(super) async fn execute(&mut self, call: &Call) -> Outcome {
        match Box::pin(self.call(call)).await {
            Ok(Outcome::Lists(mut lists)) => {
                for list in &mut lists {
                    remove_epoch(&mut list.etag);
                }
                Outcome::Lists(lists)
            }
            Ok(outcome) => outcome,
            Err(status) => {
                let (code, reason, fields) = refusal(&status);
                Outcome::Refused(code, reason, fields, status.message().to_owned())
            }
        }
    }

    async fn call(&mut self, call: &Call) -> RpcResult<Outcome> {
        match call {
            Call::Single(write, mode) => {
                let task = self.call_with_mode(*mode, async |id, dry_run| self.write(write, id, dry_run).await).await?;
                Ok(self.record_tasks(vec![task], std::slice::from_ref(write), *mode))
            }
            Call::Batch(writes, mode) => {
                let tasks =
                    self.call_with_mode(*mode, async |id, dry_run| self.batch(writes, id, dry_run).await).await?;
                Ok(self.record_tasks(tasks, writes, *mode))
            }
            Call::Undelete(id, etag) => {
                let (id, etag) = self.target(*id, *etag);
                let task = self.user.undelete(&id, &etag).await?;
                Ok(self.record_tasks(vec![task], &[], WriteMode::Once))
            }
            Call::CreateList(title, mode) => {
                let list =
                    self.call_with_mode(*mode, async |id, dry_run| self.create_list(title, id, dry_run).await).await?;
                if *mode != WriteMode::DryRun {
                    self.list_ids.push(list.id.clone());
                }
                Ok(Outcome::Lists(vec![self.list(list)]))
            }
            Call::RenameList(id, etag, title) => {
                let task_list = Some(TaskList { title: (*title).to_owned(), ..self.list_target(*id, *etag).await });
                let request = UpdateTaskListRequest { task_list, ..UpdateTaskListRequest::default() };
                let list = self.lists.clone().update_task_list(self.user.authenticated(request)).await?;
                Ok(Outcome::Lists(vec![self.list(list.into_inner())]))
            }
            Call::DeleteList(id, etag, to) => {
                let TaskList { id, etag, .. } = self.list_target(*id, *etag).await;
                let move_tasks_to = to.map(|to| self.list_id(to)).unwrap_or_default();
                let request = DeleteTaskListRequest { id, etag, move_tasks_to, ..DeleteTaskListRequest::default() };
                let list = self.lists.clone().delete_task_list(self.user.authenticated(request)).await?;
                Ok(Outcome::Lists(vec![self.list(list.into_inner())]))
            }
            Call::ListTasks(listing) => Ok(Outcome::Tasks(self.list_tasks(listing).await?)),
            Call::ListLists(page_size) => Ok(Outcome::Lists(self.list_lists(*page_size).await?)),
            Call::Wait(_) => Ok(Outcome::Tasks(Vec::new())),
        }
    }

    /// Makes a write in this mode. Asserts that a repeated request returns the stored response.
    async fn call_with_mode<T: Clone + PartialEq + std::fmt::Debug>(
        &self,
        mode: WriteMode,
        call: impl AsyncFn(String, bool) -> RpcResult<Response<T>>,
    ) -> RpcResult<T> {
        let id = if mode == WriteMode::Repeated { self.user.new_id() } else { String::new() };
        let first = call(id.clone(), mode == WriteMode::DryRun).await?.into_inner();
        if mode == WriteMode::Repeated {
            let second = call(id, false).await?;
            assert!(is_replayed(second.metadata()), "the response is replayed");
            assert_eq!(second.into_inner(), first);
        }
        Ok(first)
    }

    async fn write(&self, write: &Write, request_id: String, validate_only: bool) -> RpcResult<Response<Task>> {
        let mut client = self.user.client.clone();
        match self.to_proto(write) {
            Kind::Create(request) => {
                client.create_task(CreateTaskRequest { request_id, validate_only, ..request }).await
            }
            Kind::Update(request) => {
                client.update_task(UpdateTaskRequest { request_id, validate_only, ..request }).await
            }
            Kind::Delete(request) => {
                client.delete_task(DeleteTaskRequest { request_id, validate_only, ..request }).await
            }
            Kind::Complete(request) => {
                client.complete_task(CompleteTaskRequest { request_id, validate_only, ..request }).await
            }
            Kind::Reopen(request) => {
                client.reopen_task(ReopenTaskRequest { request_id, validate_only, ..request }).await
            }
            Kind::Move(request) => client.move_task(MoveTaskRequest { request_id, validate_only, ..request }).await,
            Kind::SkipOccurrence(request) => {
                client.skip_occurrence(SkipOccurrenceRequest { request_id, validate_only, ..request }).await
            }
            Kind::StopRecurrence(request) => {
                client.stop_recurrence(StopRecurrenceRequest { request_id, validate_only, ..request }).await
            }
        }
    }

    async fn batch(&self, writes: &[Write], request_id: String, validate_only: bool) -> RpcResult<Response<Vec<Task>>> {
        let writes = writes.iter().map(|write| PbWrite { write: Some(self.to_proto(write)) }).collect();
        let request = BatchWriteTasksRequest { writes, request_id, validate_only };
        Ok(self.user.client.clone().batch_write_tasks(request).await?.map(|response| response.tasks))
    }

    async fn create_list(&self, title: &str, request_id: String, validate_only: bool) -> RpcResult<Response<TaskList>> {
        let task_list = Some(TaskList { title: title.to_owned(), ..TaskList::default() });
        let request = CreateTaskListRequest { task_list, request_id, validate_only };
        self.lists.clone().create_task_list(self.user.authenticated(request)).await
    }

    /// Lists all pages. Asserts that all pages but the last are full.
    async fn list_tasks(&self, listing: &Listing) -> RpcResult<Vec<Task>> {
        let (task, list) = (|number| self.task_id(number), |number| self.list_id(number));
        let Listing { page_size, show_deleted, .. } = *listing;
        let filter = listing.filter.as_ref().map(|filter| filter.text(&task, &list)).unwrap_or_default();
        let order_by = listing.order_by();
        let mut request = ListTasksRequest { page_size, show_deleted, filter, order_by, page_token: String::new() };
        let mut tasks = Vec::new();
        loop {
            let page = self.user.list(request.clone()).await?;
            let is_last = page.next_page_token.is_empty();
            assert!(is_last || i32::try_from(page.tasks.len()) == Ok(page_size), "every page but the last is full");
            tasks.extend(page.tasks.into_iter().map(|task| self.task(task)));
            if is_last {
                return Ok(tasks);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn list_lists(&self, page_size: i32) -> RpcResult<Vec<TaskList>> {
        let mut request = ListTaskListsRequest { page_size, page_token: String::new() };
        let mut lists = Vec::new();
        loop {
            let page = self.lists.clone().list_task_lists(self.user.authenticated(request.clone())).await?.into_inner();
            lists.extend(page.task_lists.into_iter().map(|list| self.list(list)));
            if page.next_page_token.is_empty() {
                return Ok(lists);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Returns all lists by number, in the order of creation, as the changes have reported them.
    pub(super) fn lists(&self) -> Vec<TaskList> {
        let lists = self.list_ids.iter().filter_map(|id| self.copy.lists.get(id));
        let without_epoch = |mut list: TaskList| {
            remove_epoch(&mut list.etag);
            list
        };
        lists.map(|list| without_epoch(self.list(list.clone()))).collect()
    }

    /// Pulls the changes in pages of this size and returns all existing tasks by number. Drops tasks past their purge
    /// time, because the service reports their removal only once they are purged.
    pub(super) async fn tasks(&mut self, now: Timestamp, page_size: i32) -> Vec<Task> {
        let mut copy = std::mem::take(&mut self.copy);
        copy.pull(&self.user, page_size).await.expect("changes");
        copy.tasks.retain(|_, task| task.purge_time.is_none_or(|purge_time| Timestamp::from(purge_time) > now));
        self.copy = copy;
        self.task_ids.iter().filter_map(|id| self.copy.tasks.get(id)).map(|task| self.task(task.clone())).collect()
    }

    /// Records the ids of the tasks that these writes have created: new tasks, and the next occurrences of others.
    fn record_tasks(&mut self, tasks: Vec<Task>, writes: &[Write], mode: WriteMode) -> Outcome {
        for (task, write) in tasks.iter().zip(writes) {
            let id = if matches!(write, Write::Create(..)) { &task.id } else { &task.next_task_id };
            if mode != WriteMode::DryRun && !id.is_empty() && !self.task_ids.contains(id) {
                self.task_ids.push(id.clone());
            }
        }
        Outcome::Tasks(tasks.into_iter().map(|task| self.task(task)).collect())
    }

    async fn list_target(&self, number: Number, etag: Etag) -> TaskList {
        let name = number_of(&self.list_ids, &self.list_id(number));
        let lists = self.list_lists(500).await.expect("the lists");
        let current = lists.into_iter().find(|list| list.id == name).map_or(UNKNOWN_ETAG.to_owned(), |list| list.etag);
        TaskList { id: self.list_id(number), etag: etag_text(etag, &current), ..TaskList::default() }
    }

    /// Returns the task with numbers instead of ids.
    fn task(&self, mut task: Task) -> Task {
        remove_epoch(&mut task.etag);
        Task {
            id: number_of(&self.task_ids, &task.id),
            list_id: number_of(&self.list_ids, &task.list_id),
            parent_id: number_of(&self.task_ids, &task.parent_id),
            next_task_id: number_of(&self.task_ids, &task.next_task_id),
            series_id: String::new(),
            ..task
        }
    }

    fn list(&self, list: TaskList) -> TaskList {
        TaskList { id: number_of(&self.list_ids, &list.id), ..list }
    }
}

/// Removes the epoch from an etag, because each database has its own.
fn remove_epoch(etag: &mut String) {
    *etag = etag.rsplit_once('.').map(|(_, revision)| revision.to_owned()).unwrap_or_default();
}

fn number_of(ids: &[String], id: &str) -> String {
    let number = ids.iter().position(|other| other == id);
    number.map_or_else(|| if id.is_empty() { String::new() } else { "new".to_owned() }, |number| number.to_string())
}

fn is_replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotent-replayed").is_some_and(|value| value == "true")
}
