//! `taskey.task.v1.TaskService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use prost::Message;
use service_kit::{interceptor::Caller, status::ApiError};
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{
        BatchWriteTasksRequest, BatchWriteTasksResponse, CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest,
        GetTaskRequest, ListTaskChangesRequest, ListTaskChangesResponse, ListTasksRequest, ListTasksResponse,
        MoveTaskRequest, ReopenTaskRequest, Task, UndeleteTaskRequest, UpdateTaskRequest, WatchTasksRequest,
        WatchTasksResponse, task_service_server::TaskService,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::{App, respond};
use crate::{
    changes::{SyncPage, sync_page},
    model::{
        ListQuery, Target, TaskRow, batch,
        request::Mode,
        sync::SyncPoint,
        write::{self, Write},
    },
    page,
    store::{
        changes,
        mutations::{self, Mutation},
        tasks,
        transaction::Outcome,
    },
    watch::Watch,
};

/// Maximum number of changes in one message of a watch. A stream keeps a buffer of the size of its largest message:
/// with 100 changes, 1000 watches need 30 MiB more.
const WATCH_PAGE: usize = 25;

/// Maximum time between two messages of a watch.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(15);

/// How long a watcher may take to receive a message before it is disconnected.
const SLOW: Duration = Duration::from_secs(10);

/// The service.
pub(crate) struct Tasks(pub(crate) Arc<App>);

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn create_task(&self, request: Request<CreateTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("CreateTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| write::create(request, form))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let target = Target::parse("id", &request.into_inner().id, "")?;
        let row = tasks::get(&self.0.db, owner, self.0.clock.now(), target.id).await?;
        Ok(Response::new(row.into()))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let query = ListQuery::try_from(request.into_inner())?;
        let App { db, clock, page_tokens, max_response_bytes, .. } = &*self.0;
        let after = query.after(page_tokens, owner)?;
        let rows = tasks::list(db, owner, clock.now(), &query, after).await?;
        Ok(Response::new(page::fill(page_tokens, owner, *max_response_bytes, &query, rows)))
    }

    async fn update_task(&self, request: Request<UpdateTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("UpdateTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| write::update(request, form))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("DeleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| write::delete(&request, form))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn undelete_task(&self, request: Request<UndeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("UndeleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| form.target("id", &request.id, &request.etag).map(Write::Undelete))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn complete_task(&self, request: Request<CompleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("CompleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| form.target("id", &request.id, &request.etag).map(Write::Complete))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn reopen_task(&self, request: Request<ReopenTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("ReopenTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| form.target("id", &request.id, &request.etag).map(Write::Reopen))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn move_task(&self, request: Request<MoveTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("MoveTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|form| write::move_task(&request, form))?;
        self.write(owner, mode, writes, Vec::new(), single).await
    }

    async fn batch_write_tasks(
        &self,
        request: Request<BatchWriteTasksRequest>,
    ) -> Result<Response<BatchWriteTasksResponse>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let mode = Mode::of("BatchWriteTasks", &request, &request.request_id, request.validate_only)?;
        let (writes, prefixes) = batch::parse(request)?;
        self.write(owner, mode, writes, prefixes, several).await
    }

    async fn list_task_changes(
        &self,
        request: Request<ListTaskChangesRequest>,
    ) -> Result<Response<ListTaskChangesResponse>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let ListTaskChangesRequest { sync_token, page_size } = request.into_inner();
        let size = page_size_of(page_size)?;
        let since = SyncPoint::open(&self.0.page_tokens, owner, &sync_token)?;
        let SyncPage { changes, token, has_more, .. } = self.0.changes(owner, since, size).await?;
        Ok(Response::new(ListTaskChangesResponse { changes, next_sync_token: token, has_more }))
    }

    type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<WatchTasksResponse, Status>> + Send>>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let caller = self.0.caller(&request)?;
        let owner = caller.user_id();
        let since = SyncPoint::open(&self.0.page_tokens, owner, &request.into_inner().sync_token)?;
        let watch = self.0.watches.watch(owner)?;
        // Errors are returned before the stream starts.
        let first = self.0.changes(owner, since, WATCH_PAGE).await?;
        Ok(Response::new(watching(Arc::clone(&self.0), caller, watch, first)))
    }
}

/// Returns the size of a page.
pub(super) fn page_size_of(asked: i32) -> Result<usize, ApiError> {
    let mut violations = service_kit::status::Violations::default();
    let size = violations.check("page_size", service_kit::page::size(asked));
    violations.finish(size)
}

/// Returns the response to a single write; an empty task if there is none.
fn single(rows: &[Option<TaskRow>]) -> Task {
    rows.first().cloned().flatten().map(Task::from).unwrap_or_default()
}

/// Returns the response to a batch.
fn several(rows: &[Option<TaskRow>]) -> BatchWriteTasksResponse {
    let tasks = rows.iter().map(|row| row.clone().map(Task::from).unwrap_or_default()).collect();
    BatchWriteTasksResponse { tasks }
}

impl Tasks {
    /// Executes a write and returns its response, or the response that was stored for its request id.
    async fn write<M: Message + Default + 'static>(
        &self,
        owner: Uuid,
        mode: Mode,
        writes: Vec<Write>,
        prefixes: Vec<String>,
        message: fn(&[Option<TaskRow>]) -> M,
    ) -> Result<Response<M>, Status> {
        let App { db, owner_queue, clock, watches, purge_after, max_tasks, .. } = &*self.0;
        let now = clock.now();
        let mutation = Mutation {
            owner,
            now,
            purge_time: now + *purge_after,
            max_tasks: (*max_tasks).into(),
            mode,
            new_ids: writes.iter().map(|_| clock.new_id()).collect(),
            writes,
            prefixes,
            encode: Box::new(move |rows| message(rows).encode_to_vec()),
        };
        let outcome = match mutations::execute(db, owner_queue, mutation).await? {
            Outcome::Done(rows) => Outcome::Done(message(&rows)),
            Outcome::Replayed(bytes) => Outcome::Replayed(bytes),
        };
        watches.tell(owner);
        respond(outcome)
    }
}

impl App {
    /// Returns the changes since a sync token.
    async fn changes(&self, owner: Uuid, since: Option<SyncPoint>, size: usize) -> Result<SyncPage, ApiError> {
        let read = changes::list_after(&self.db, owner, self.clock.now(), since, size + 1).await?;
        Ok(sync_page(&self.page_tokens, owner, self.max_response_bytes, size, read))
    }
}

/// Returns the stream of a watch, which starts with a page that has been read. It ends when the session ends, the
/// client disconnects or reads too slowly.
fn watching(app: Arc<App>, caller: Caller, watch: Watch, first: SyncPage) -> <Tasks as TaskService>::WatchTasksStream {
    let (messages, taken) = mpsc::channel(1);
    let (cut, was_cut) = oneshot::channel();
    let ended = {
        let app = Arc::clone(&app);
        async move { Err(Status::from(app.authenticator.ended(&caller).await)) }
    };
    let owner = watch.owner();
    tokio::spawn(async move {
        let gone = messages.clone();
        tokio::select! {
            () = gone.closed() => {}
            fault = follow(&app, owner, watch, first, messages) => { _ = cut.send(fault); }
        }
    });
    // The error is sent after the last message. If there is none, the task panicked.
    let fault = stream::once(was_cut).map(|fault| {
        Err(Status::from(fault.unwrap_or_else(|_| ApiError::internal("a watch has ended without a reason"))))
    });
    let told = ReceiverStream::new(taken).map(Ok).chain(fault);
    stream::select(told, stream::once(ended)).boxed()
}

/// Sends changes for as long as they are received in time. Returns why it stopped.
async fn follow(
    app: &App,
    owner: Uuid,
    mut watch: Watch,
    mut told: SyncPage,
    messages: mpsc::Sender<WatchTasksResponse>,
) -> ApiError {
    // The first message is sent even if there are no changes.
    let mut due = Instant::now();
    loop {
        let SyncPage { changes, token, point, has_more } = told;
        if !changes.is_empty() || due <= Instant::now() {
            let message = WatchTasksResponse { changes, sync_token: token, checkpoint: !has_more };
            if messages.send_timeout(message, SLOW).await.is_err() {
                let text = "changes were read too slowly; take the stream up with the last token";
                let refusal = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, text);
                return refusal.retry_after(Duration::from_secs(1));
            }
            due = Instant::now() + CHECKPOINT_EVERY;
        }
        if !has_more {
            // A change and a timeout are handled alike.
            _ = timeout_at(due, watch.changed()).await;
        }
        told = match app.changes(owner, Some(point), WATCH_PAGE).await {
            Ok(told) => told,
            Err(refusal) => return refusal,
        };
    }
}
