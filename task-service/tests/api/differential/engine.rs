//! One of the engines, and a user who makes the calls of a story there. Ids are told by the numbers of what they name, so
//! that the answers of all engines can be compared.

use service_kit::{clock::Timestamp, testing::refusal};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest, CompleteTaskRequest, CreateTaskListRequest, CreateTaskRequest, DeleteTaskListRequest,
    DeleteTaskRequest, ListTaskListsRequest, ListTasksRequest, MoveTaskRequest, ReopenTaskRequest, Task, TaskList,
    UpdateTaskListRequest, UpdateTaskRequest,
    batch_write_tasks_request::{Write as PbWrite, write::Write as Kind},
    task_list_service_client::TaskListServiceClient,
};
use tonic::{Code, Response, Status, metadata::MetadataMap, transport::Channel};

use super::{
    call::{Call, Etag, Mode, Number, Write},
    listing::Listing,
    wire::etag_text,
};
use crate::{
    follow::Known,
    support::{Service, User},
};

/// What an engine answers, with numbers for ids.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Tasks(Vec<Task>),
    Lists(Vec<TaskList>),
    /// The code, the reason, the fields at fault and the text.
    Refused(Code, String, Vec<String>, String),
}

pub(super) struct Engine {
    user: User,
    lists: TaskListServiceClient<Channel>,
    /// What it is known to hold, by its changes.
    pub(super) known: Known,
    pub(super) task_ids: Vec<String>,
    pub(super) list_ids: Vec<String>,
}

type Answered<T> = Result<T, Status>;

impl Engine {
    pub(super) fn new(service: &Service, user: &User) -> Self {
        let (user, lists) = (user.at(service), TaskListServiceClient::new(service.channel.clone()));
        let list_ids = vec![user.id.to_string()];
        Self { user, lists, known: Known::default(), task_ids: Vec::new(), list_ids }
    }

    /// Makes a call, and takes down what it has made.
    pub(super) async fn make(&mut self, call: &Call) -> Answer {
        match Box::pin(self.call(call)).await {
            Ok(answer) => answer,
            Err(status) => {
                let (code, reason, fields) = refusal(&status);
                Answer::Refused(code, reason, fields, status.message().to_owned())
            }
        }
    }

    async fn call(&mut self, call: &Call) -> Answered<Answer> {
        match call {
            Call::One(write, mode) => {
                let task = self.twice(*mode, async |id, tried| self.one(write, id, tried).await).await?;
                Ok(self.told(vec![task], &[matches!(write, Write::Create(..)) && *mode != Mode::Tried]))
            }
            Call::Batch(writes, mode) => {
                let tasks = self.twice(*mode, async |id, tried| self.batch(writes, id, tried).await).await?;
                let is_new = |write: &Write| matches!(write, Write::Create(..)) && *mode != Mode::Tried;
                Ok(self.told(tasks, &writes.iter().map(is_new).collect::<Vec<_>>()))
            }
            Call::Undelete(id, etag) => {
                let (id, etag) = self.target(*id, *etag);
                let task = self.user.undelete(&id, &etag).await?;
                Ok(self.told(vec![task], &[false]))
            }
            Call::MakeList(title, mode) => {
                let list = self.twice(*mode, async |id, tried| self.make_list(title, id, tried).await).await?;
                if *mode != Mode::Tried {
                    self.list_ids.push(list.id.clone());
                }
                Ok(Answer::Lists(vec![self.list(list)]))
            }
            Call::Rename(id, etag, title) => {
                let task_list = Some(TaskList { title: (*title).to_owned(), ..self.list_target(*id, *etag).await });
                let request = UpdateTaskListRequest { task_list, ..UpdateTaskListRequest::default() };
                let list = self.lists.clone().update_task_list(self.user.signed(request)).await?;
                Ok(Answer::Lists(vec![self.list(list.into_inner())]))
            }
            Call::DropList(id, etag, to) => {
                let TaskList { id, etag, .. } = self.list_target(*id, *etag).await;
                let move_tasks_to = to.map(|to| self.list_id(to)).unwrap_or_default();
                let request = DeleteTaskListRequest { id, etag, move_tasks_to, ..DeleteTaskListRequest::default() };
                let list = self.lists.clone().delete_task_list(self.user.signed(request)).await?;
                Ok(Answer::Lists(vec![self.list(list.into_inner())]))
            }
            Call::Show(listing) => Ok(Answer::Tasks(self.show(listing).await?)),
            Call::ShowLists(page_size) => Ok(Answer::Lists(self.show_lists(*page_size).await?)),
            Call::Wait(_) => Ok(Answer::Tasks(Vec::new())),
        }
    }

    /// Makes a write as the mode says; the answer to its repetition is the same.
    async fn twice<T: Clone + PartialEq + std::fmt::Debug>(
        &self,
        mode: Mode,
        call: impl AsyncFn(String, bool) -> Answered<Response<T>>,
    ) -> Answered<T> {
        let id = if mode == Mode::Repeated { self.user.new_id() } else { String::new() };
        let first = call(id.clone(), mode == Mode::Tried).await?.into_inner();
        if mode == Mode::Repeated {
            let second = call(id, false).await?;
            assert!(is_replayed(second.metadata()), "it comes again");
            assert_eq!(second.into_inner(), first);
        }
        Ok(first)
    }

    async fn one(&self, write: &Write, request_id: String, validate_only: bool) -> Answered<Response<Task>> {
        let mut client = self.user.client.clone();
        match self.kind(write) {
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
        }
    }

    async fn batch(&self, writes: &[Write], request_id: String, validate_only: bool) -> Answered<Response<Vec<Task>>> {
        let writes = writes.iter().map(|write| PbWrite { write: Some(self.kind(write)) }).collect();
        let request = BatchWriteTasksRequest { writes, request_id, validate_only };
        Ok(self.user.client.clone().batch_write_tasks(request).await?.map(|answer| answer.tasks))
    }

    async fn make_list(&self, title: &str, request_id: String, validate_only: bool) -> Answered<Response<TaskList>> {
        let task_list = Some(TaskList { title: title.to_owned(), ..TaskList::default() });
        let request = CreateTaskListRequest { task_list, request_id, validate_only };
        self.lists.clone().create_task_list(self.user.signed(request)).await
    }

    /// All pages of a list, each as long as it should be.
    async fn show(&self, listing: &Listing) -> Answered<Vec<Task>> {
        let (task, list) = (|number| self.task_id(number), |number| self.list_id(number));
        let Listing { page_size, show_deleted, .. } = *listing;
        let filter = listing.filter.as_ref().map(|filter| filter.text(&task, &list)).unwrap_or_default();
        let order_by = listing.order_by();
        let mut request = ListTasksRequest { page_size, show_deleted, filter, order_by, page_token: String::new() };
        let mut tasks = Vec::new();
        loop {
            let page = self.user.list(request.clone()).await?;
            let is_last = page.next_page_token.is_empty();
            assert!(is_last || i32::try_from(page.tasks.len()) == Ok(page_size), "a page is full");
            tasks.extend(page.tasks.into_iter().map(|task| self.task(task)));
            if is_last {
                return Ok(tasks);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn show_lists(&self, page_size: i32) -> Answered<Vec<TaskList>> {
        let mut request = ListTaskListsRequest { page_size, page_token: String::new() };
        let mut lists = Vec::new();
        loop {
            let page = self.lists.clone().list_task_lists(self.user.signed(request.clone())).await?.into_inner();
            lists.extend(page.task_lists.into_iter().map(|list| self.list(list)));
            if page.next_page_token.is_empty() {
                return Ok(lists);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Learns what has changed, so many changes at once, and gives all tasks that are there, by their numbers. That one
    /// has come to its purge time is not told before it is purged, and needs not be.
    pub(super) async fn tasks(&mut self, now: Timestamp, page_size: i32) -> Vec<Task> {
        let mut known = std::mem::take(&mut self.known);
        known.pull(&self.user, page_size).await.expect("changes");
        known.tasks.retain(|_, task| task.purge_time.is_none_or(|purge_time| Timestamp::from(purge_time) > now));
        self.known = known;
        self.task_ids.iter().filter_map(|id| self.known.tasks.get(id)).map(|task| self.task(task.clone())).collect()
    }

    fn told(&mut self, tasks: Vec<Task>, is_new: &[bool]) -> Answer {
        let new = tasks.iter().zip(is_new).filter(|(_, is_new)| **is_new).map(|(task, _)| task.id.clone());
        self.task_ids.extend(new.collect::<Vec<_>>());
        Answer::Tasks(tasks.into_iter().map(|task| self.task(task)).collect())
    }

    async fn list_target(&self, number: Number, etag: Etag) -> TaskList {
        let name = number_of(&self.list_ids, &self.list_id(number));
        let lists = self.show_lists(500).await.expect("the lists");
        let known = lists.into_iter().find(|list| list.id == name).map_or("\"1\"".to_owned(), |list| list.etag);
        TaskList { id: self.list_id(number), etag: etag_text(etag, &known), ..TaskList::default() }
    }

    /// A task with numbers for ids.
    fn task(&self, task: Task) -> Task {
        Task {
            id: number_of(&self.task_ids, &task.id),
            list_id: number_of(&self.list_ids, &task.list_id),
            parent_id: number_of(&self.task_ids, &task.parent_id),
            ..task
        }
    }

    fn list(&self, list: TaskList) -> TaskList {
        TaskList { id: number_of(&self.list_ids, &list.id), ..list }
    }
}

fn number_of(ids: &[String], id: &str) -> String {
    let number = ids.iter().position(|known| known == id);
    number.map_or_else(|| if id.is_empty() { String::new() } else { "new".to_owned() }, |number| number.to_string())
}

fn is_replayed(metadata: &MetadataMap) -> bool {
    metadata.get("idempotent-replayed").is_some_and(|value| value == "true")
}
