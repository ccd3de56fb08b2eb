//! `taskey.task.v1.TaskService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use prost::Message;
use service_kit::{interceptor::Caller, status::Refusal};
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
    changes::{Told, tell},
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

/// How many changes one message of a watch has at most. A stream keeps a buffer of the size of its largest message: with 100
/// changes, 1000 watches take 30 MiB more.
const WATCH_PAGE: usize = 25;

/// A watch says at least this often how far it has come.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(15);

/// Who does not take a message for so long reads too slowly, and is cut off.
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
        let Told { changes, token, has_more, .. } = self.0.changes(owner, since, size).await?;
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
        // What can be refused is refused before the stream begins.
        let first = self.0.changes(owner, since, WATCH_PAGE).await?;
        Ok(Response::new(watching(Arc::clone(&self.0), caller, watch, first)))
    }
}

/// The size of a page.
pub(super) fn page_size_of(asked: i32) -> Result<usize, Refusal> {
    let mut violations = service_kit::status::Violations::default();
    let size = violations.check("page_size", service_kit::page::size(asked));
    violations.finish(size)
}

/// The answer to a write of its own; an empty task if there is none.
fn single(rows: &[Option<TaskRow>]) -> Task {
    rows.first().cloned().flatten().map(Task::from).unwrap_or_default()
}

/// The answer to a batch.
fn several(rows: &[Option<TaskRow>]) -> BatchWriteTasksResponse {
    let tasks = rows.iter().map(|row| row.clone().map(Task::from).unwrap_or_default()).collect();
    BatchWriteTasksResponse { tasks }
}

impl Tasks {
    /// Does what a request says, and answers it, or gives the answer that it was given before.
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
    /// What has changed since a point.
    async fn changes(&self, owner: Uuid, since: Option<SyncPoint>, size: usize) -> Result<Told, Refusal> {
        let read = changes::list_after(&self.db, owner, self.clock.now(), since, size + 1).await?;
        Ok(tell(&self.page_tokens, owner, self.max_response_bytes, size, read))
    }
}

/// The stream of a watch, beginning with what has been read: until the session ends, the caller goes, or does not keep
/// up.
fn watching(app: Arc<App>, caller: Caller, watch: Watch, first: Told) -> <Tasks as TaskService>::WatchTasksStream {
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
    // The messages end where there is a fault, which comes last. Where nobody says which, it was a panic.
    let fault = stream::once(was_cut).map(|fault| {
        Err(Status::from(fault.unwrap_or_else(|_| Refusal::internal("a watch has ended without a reason"))))
    });
    let told = ReceiverStream::new(taken).map(Ok).chain(fault);
    stream::select(told, stream::once(ended)).boxed()
}

/// Tells what changes, for as long as it is taken in time; gives the reason why it cannot go on.
async fn follow(
    app: &App,
    owner: Uuid,
    mut watch: Watch,
    mut told: Told,
    messages: mpsc::Sender<WatchTasksResponse>,
) -> Refusal {
    // The first message says how far the caller has come, whatever there is to tell.
    let mut due = Instant::now();
    loop {
        let Told { changes, token, point, has_more } = told;
        if !changes.is_empty() || due <= Instant::now() {
            let message = WatchTasksResponse { changes, sync_token: token, checkpoint: !has_more };
            if messages.send_timeout(message, SLOW).await.is_err() {
                let text = "changes were read too slowly; take the stream up with the last token";
                let refusal = Refusal::new(Code::ResourceExhausted, ErrorReason::Overloaded, text);
                return refusal.retry_after(Duration::from_secs(1));
            }
            due = Instant::now() + CHECKPOINT_EVERY;
        }
        if !has_more {
            // Whether something has happened or it is time for a checkpoint, the next step is the same.
            _ = timeout_at(due, watch.changed()).await;
        }
        told = match app.changes(owner, Some(point), WATCH_PAGE).await {
            Ok(told) => told,
            Err(refusal) => return refusal,
        };
    }
}
