//! `taskey.task.v1.TaskService`.

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message;
use service_kit::{auth::interceptor::Caller, epoch::Epoch, status::ApiError};
use taskey_proto::{
    encoded::Encoded,
    task::v1::{
        AcknowledgeReminderRequest, BatchWriteTasksRequest, BatchWriteTasksResponse, CompleteTaskRequest,
        CreateTaskRequest, DeleteTaskRequest, ExportTasksRequest, ExportTasksResponse, GetTaskRequest,
        ImportTasksRequest, ImportTasksResponse, ListTaskChangesRequest, ListTaskChangesResponse,
        ListTaskHistoryRequest, ListTaskHistoryResponse, ListTasksRequest, ListTasksResponse, MoveTaskRequest,
        PreviewOccurrencesRequest, PreviewOccurrencesResponse, ReopenTaskRequest, SkipOccurrenceRequest,
        SnoozeReminderRequest, StopRecurrenceRequest, Task, UndeleteTaskRequest, UpdateTaskRequest, WatchTasksRequest,
        WatchTasksResponse, task_service_server::TaskService,
    },
};
use tonic::{Request, Response, Status, Streaming};

use super::{App, Writer, import::Import, respond, upload};
use crate::{
    model::{TaskRow, sync::SyncPoint, write::Write},
    page::{PageEncoder, history_page},
    request::{self, batch, options::WriteOptions, recurrence, update, write},
    response,
    store::{history::pages, lists, tasks, transaction::Outcome},
    transfer::export::Export,
    watch::{stream, sync_page::SyncPage},
};

/// The service.
pub(crate) struct Tasks(pub(crate) Arc<App>);

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn create_task(&self, request: Request<CreateTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("CreateTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::create(request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let target = request::target("id", &request.into_inner().id, "")?;
        let row = self.0.reads.get(owner, self.0.clock.now(), target.id).await?;
        Ok(Response::new(response::task(row, self.0.page_tokens.epoch().get())))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<Encoded<ListTasksResponse>>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let query = request::list_query(request.into_inner())?;
        let App { db, searches, clock, page_tokens, max_response_bytes, .. } = &*self.0;
        let after = query.after(page_tokens, owner)?;
        let page = PageEncoder::new(&query, page_tokens.epoch().get(), *max_response_bytes);
        let page = tasks::list(db, searches, owner, clock.now(), &query, after, page).await?;
        Ok(Response::new(page.finish(page_tokens, owner, &query)))
    }

    async fn update_task(&self, request: Request<UpdateTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let options = WriteOptions::parse("UpdateTask", &request, &request.request_id, request.validate_only)?;
        let repeated = update::split_off_repeated(&metadata, &mut request);
        let writes = write::parse(|validator| update::update(request, repeated, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("DeleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::delete(&request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn undelete_task(&self, request: Request<UndeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("UndeleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| validator.target("id", &request.id, &request.etag).map(Write::Undelete))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn complete_task(&self, request: Request<CompleteTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("CompleteTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::complete(&request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn reopen_task(&self, request: Request<ReopenTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("ReopenTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| validator.target("id", &request.id, &request.etag).map(Write::Reopen))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn move_task(&self, request: Request<MoveTaskRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("MoveTask", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::move_task(&request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn batch_write_tasks(
        &self,
        request: Request<BatchWriteTasksRequest>,
    ) -> Result<Response<BatchWriteTasksResponse>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("BatchWriteTasks", &request, &request.request_id, request.validate_only)?;
        let (writes, prefixes) = batch::parse(request)?;
        self.write(writer, options, writes, prefixes, batch_response).await
    }

    async fn list_task_changes(
        &self,
        request: Request<ListTaskChangesRequest>,
    ) -> Result<Response<ListTaskChangesResponse>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let ListTaskChangesRequest { sync_token, page_size } = request.into_inner();
        let size = request::page_size(page_size)?;
        let since = SyncPoint::open(&self.0.page_tokens, owner, &sync_token)?;
        let SyncPage { changes, list_changes, token, has_more, .. } = self.0.changes_since(owner, since, size).await?;
        Ok(Response::new(ListTaskChangesResponse { changes, list_changes, next_sync_token: token, has_more }))
    }

    type WatchTasksStream = stream::Messages<WatchTasksResponse>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let caller = Caller::from_request(&request)?.clone();
        let owner = caller.user_id();
        let since = SyncPoint::open(&self.0.page_tokens, owner, &request.into_inner().sync_token)?;
        let watch = self.0.watches.watch(owner)?;
        // Reads the first page here, so that its errors are returned before the stream starts.
        let first = self.0.changes_since(owner, since, stream::PAGE_SIZE).await?;
        Ok(Response::new(stream::watch(self.0.changes.clone(), watch, first, self.session_end(caller))))
    }

    async fn import_tasks(
        &self,
        request: Request<Streaming<ImportTasksRequest>>,
    ) -> Result<Response<ImportTasksResponse>, Status> {
        let writer = self.0.writer(&request)?;
        let caller = Caller::from_request(&request)?.clone();
        let _permit = self.0.imports.acquire(writer.owner).await?;
        let upload = upload::receive(request.into_inner()).await?;
        let start = Timestamp::from_microsecond(self.0.clock.now().as_micros()).map_err(ApiError::internal)?;
        let import = Import { app: &self.0, writer, upload, start };
        tokio::select! {
            imported = import.run() => Ok(Response::new(imported?)),
            error = self.session_end(caller) => Err(error.into()),
        }
    }

    type ExportTasksStream = stream::Messages<ExportTasksResponse>;

    async fn export_tasks(
        &self,
        request: Request<ExportTasksRequest>,
    ) -> Result<Response<Self::ExportTasksStream>, Status> {
        let caller = Caller::from_request(&request)?.clone();
        let owner = caller.user_id();
        let format = request::export_format(request.get_ref().format())?;
        let App { db, owner_queue, clock, page_tokens, exports, .. } = &*self.0;
        let permit = exports.acquire(owner).await?;
        let default_list = lists::get(db, owner_queue, owner, clock.now(), owner).await?;
        let export = Export { db: db.clone(), epoch: page_tokens.epoch().get(), default_list, format, permit };
        Ok(Response::new(stream::from_task(|messages| export.send(messages), self.session_end(caller))))
    }

    async fn list_task_history(
        &self,
        request: Request<ListTaskHistoryRequest>,
    ) -> Result<Response<ListTaskHistoryResponse>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let query = request::history_query(request.into_inner())?;
        let App { db, clock, page_tokens, max_response_bytes, .. } = &*self.0;
        let after = query.after(page_tokens, owner)?;
        let entries = pages::list(db, owner, clock.now(), query.task_id, after, query.page_size + 1).await?;
        Ok(Response::new(history_page(page_tokens, owner, &query, entries, *max_response_bytes)))
    }

    async fn preview_occurrences(
        &self,
        request: Request<PreviewOccurrencesRequest>,
    ) -> Result<Response<PreviewOccurrencesResponse>, Status> {
        Ok(Response::new(recurrence::preview(request.into_inner())?.response()?))
    }

    async fn skip_occurrence(&self, request: Request<SkipOccurrenceRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("SkipOccurrence", &request, &request.request_id, request.validate_only)?;
        let target = request::target("id", &request.id, &request.etag)?;
        self.write(writer, options, vec![Write::SkipOccurrence(target)], Vec::new(), single_response).await
    }

    async fn stop_recurrence(&self, request: Request<StopRecurrenceRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("StopRecurrence", &request, &request.request_id, request.validate_only)?;
        let target = request::target("id", &request.id, &request.etag)?;
        self.write(writer, options, vec![Write::StopRecurrence(target)], Vec::new(), single_response).await
    }

    async fn snooze_reminder(&self, request: Request<SnoozeReminderRequest>) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("SnoozeReminder", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::snooze(&request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }

    async fn acknowledge_reminder(
        &self,
        request: Request<AcknowledgeReminderRequest>,
    ) -> Result<Response<Task>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("AcknowledgeReminder", &request, &request.request_id, request.validate_only)?;
        let writes = write::parse(|validator| write::acknowledge(&request, validator))?;
        self.write(writer, options, writes, Vec::new(), single_response).await
    }
}

/// Returns the response to a single write: its task, or an empty one if the task is missing.
fn single_response(rows: &[Option<TaskRow>], epoch: Epoch) -> Task {
    rows.first().cloned().flatten().map(|row| response::task(row, epoch)).unwrap_or_default()
}

/// Returns the response to a batch, with an empty task where a task is missing.
fn batch_response(rows: &[Option<TaskRow>], epoch: Epoch) -> BatchWriteTasksResponse {
    let task = |row: &Option<TaskRow>| row.clone().map(|row| response::task(row, epoch)).unwrap_or_default();
    BatchWriteTasksResponse { tasks: rows.iter().map(task).collect() }
}

impl Tasks {
    /// Returns a future that ends with an error when the session of the caller does.
    fn session_end(&self, caller: Caller) -> impl Future<Output = ApiError> + Send + 'static {
        let app = Arc::clone(&self.0);
        async move { app.authenticator.wait_until_invalid(&caller).await }
    }

    /// Executes the writes of a request. Returns the response, or the one that was stored for the request id.
    async fn write<M: Message + Default + 'static>(
        &self,
        writer: Writer,
        options: WriteOptions,
        writes: Vec<Write>,
        prefixes: Vec<String>,
        message: fn(&[Option<TaskRow>], Epoch) -> M,
    ) -> Result<Response<M>, Status> {
        let App { owner_queue, watches, page_tokens, .. } = &*self.0;
        let (owner, epoch) = (writer.owner, page_tokens.epoch().get());
        let encode = Arc::new(move |rows: &[Option<TaskRow>]| message(rows, epoch).encode_to_vec());
        let mutation = self.0.mutation(writer, options, writes, prefixes, encode);
        let outcome = match self.0.writes.execute(owner_queue, mutation).await? {
            Outcome::Done(rows) => {
                let next = rows.iter().flatten().filter_map(TaskRow::pending_reminder).min();
                if let Some(time) = next {
                    self.0.reminders.schedule(time);
                }
                Outcome::Done(message(&rows, epoch))
            }
            Outcome::Replayed(bytes) => Outcome::Replayed(bytes),
        };
        watches.notify(owner);
        respond(outcome)
    }
}
