//! `taskey.task.v1.TaskListService`.

use std::sync::Arc;

use prost::Message;
use service_kit::{auth::interceptor::Caller, status::ApiError};
use taskey_proto::task::v1::{
    CreateTaskListRequest, DeleteTaskListRequest, GetTaskListRequest, ListTaskListsRequest, ListTaskListsResponse,
    TaskList, UpdateTaskListRequest, task_list_service_server::TaskListService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{App, Writer, respond};
use crate::{
    model::list::ListRow,
    request::{self, options::WriteOptions},
    response,
    store::{
        lists::{self, ListWrite},
        transaction::Outcome,
    },
};

/// The arguments of the page tokens of `ListTaskLists`, which make page tokens of `ListTasks` invalid.
const ARGUMENTS: &[u8] = b"lists";

/// The service.
pub(crate) struct Lists(pub(crate) Arc<App>);

#[tonic::async_trait]
impl TaskListService for Lists {
    async fn create_task_list(&self, request: Request<CreateTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("CreateTaskList", &request, &request.request_id, request.validate_only)?;
        let title = request::list::create(request)?;
        let App { db, owner_queue, clock, max_lists, .. } = &*self.0;
        let (id, max_lists) = (clock.new_id(), (*max_lists).into());
        let outcome = lists::create(db, owner_queue, self.list_write(writer, options), id, title, max_lists).await?;
        self.notify_and_respond(writer.owner, outcome)
    }

    async fn get_task_list(&self, request: Request<GetTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let id = request::target("id", &request.into_inner().id, "")?.id;
        let App { db, owner_queue, clock, .. } = &*self.0;
        let row = lists::get(db, owner_queue, owner, clock.now(), id).await?;
        Ok(Response::new(self.message(row)))
    }

    async fn list_task_lists(
        &self,
        request: Request<ListTaskListsRequest>,
    ) -> Result<Response<ListTaskListsResponse>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let App { db, owner_queue, clock, page_tokens, .. } = &*self.0;
        let ListTaskListsRequest { page_size, page_token } = request.into_inner();
        let size = request::page_size(page_size)?;
        let after = page_tokens.open_id(owner, ARGUMENTS, &page_token)?;
        let rows = lists::list(db, owner_queue, owner, clock.now(), after, size + 1).await.map_err(ApiError::from)?;
        let (rows, next_page_token) = page_tokens.paginate(owner, ARGUMENTS, rows, size, |list| list.id);
        let task_lists = rows.into_iter().map(|row| self.message(row)).collect();
        Ok(Response::new(ListTaskListsResponse { task_lists, next_page_token }))
    }

    async fn update_task_list(&self, request: Request<UpdateTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let writer = self.0.writer(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let options = WriteOptions::parse("UpdateTaskList", &request, &request.request_id, request.validate_only)?;
        let repeated = request::list::split_off_repeated(&metadata, &mut request);
        let (target, title) = request::list::update(request)?;
        let App { db, owner_queue, .. } = &*self.0;
        let write = self.list_write(writer, options);
        let outcome = lists::update(db, owner_queue, write, target, title, repeated).await?;
        self.notify_and_respond(writer.owner, outcome)
    }

    async fn delete_task_list(&self, request: Request<DeleteTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let writer = self.0.writer(&request)?;
        let request = request.into_inner();
        let options = WriteOptions::parse("DeleteTaskList", &request, &request.request_id, request.validate_only)?;
        let (target, move_tasks_to) = request::list::delete(&request)?;
        let App { db, owner_queue, purge_after, .. } = &*self.0;
        let write = self.list_write(writer, options);
        let purge_time = write.now + *purge_after;
        let outcome = lists::delete(db, owner_queue, write, target, move_tasks_to, purge_time).await?;
        self.notify_and_respond(writer.owner, outcome)
    }
}

impl Lists {
    fn message(&self, row: ListRow) -> TaskList {
        response::task_list(row, self.0.page_tokens.epoch().get())
    }

    fn list_write(&self, writer: Writer, options: WriteOptions) -> ListWrite {
        let epoch = self.0.page_tokens.epoch().get();
        let encode = |row: &ListRow, epoch| response::task_list(row.clone(), epoch).encode_to_vec();
        let Writer { owner, actor } = writer;
        ListWrite { owner, actor, now: self.0.clock.now(), options, epoch, encode }
    }

    fn notify_and_respond(&self, owner: Uuid, outcome: Outcome<ListRow>) -> Result<Response<TaskList>, Status> {
        self.0.watches.notify(owner);
        respond(match outcome {
            Outcome::Done(row) => Outcome::Done(self.message(row)),
            Outcome::Replayed(bytes) => Outcome::Replayed(bytes),
        })
    }
}
