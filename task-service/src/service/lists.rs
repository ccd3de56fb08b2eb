//! `taskey.task.v1.TaskListService`.

use std::sync::Arc;

use prost::Message;
use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{
    CreateTaskListRequest, DeleteTaskListRequest, GetTaskListRequest, ListTaskListsRequest, ListTaskListsResponse,
    TaskList, UpdateTaskListRequest, task_list_service_server::TaskListService,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{App, respond, tasks::page_size_of};
use crate::{
    model::{
        field,
        list::{ListRow, ListWrite},
        request::WriteOptions,
    },
    store::{
        lists::{self, ListMutation},
        transaction::Outcome,
    },
};

/// The arguments of the page tokens of lists.
const ARGUMENTS: &[u8] = b"lists";

/// The service.
pub(crate) struct Lists(pub(crate) Arc<App>);

#[tonic::async_trait]
impl TaskListService for Lists {
    async fn create_task_list(&self, request: Request<CreateTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let options = WriteOptions::of("CreateTaskList", &request, &request.request_id, request.validate_only)?;
        self.write(owner, options, ListWrite::try_from(request)?).await
    }

    async fn get_task_list(&self, request: Request<GetTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let mut violations = Violations::default();
        let id = violations.check("id", field::id(&request.into_inner().id));
        let id = violations.finish(id)?;
        let App { db, owner_queue, clock, .. } = &*self.0;
        Ok(Response::new(lists::get(db, owner_queue, owner, clock.now(), id).await?.into()))
    }

    async fn list_task_lists(
        &self,
        request: Request<ListTaskListsRequest>,
    ) -> Result<Response<ListTaskListsResponse>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let App { db, owner_queue, clock, page_tokens, .. } = &*self.0;
        let ListTaskListsRequest { page_size, page_token } = request.into_inner();
        let size = page_size_of(page_size)?;
        let after = page_tokens.open_id(owner, ARGUMENTS, &page_token)?;
        let rows = lists::list(db, owner_queue, owner, clock.now(), after, size + 1).await.map_err(ApiError::from)?;
        let (rows, next_page_token) = page_tokens.cut(owner, ARGUMENTS, rows, size, |list| list.id);
        let task_lists = rows.into_iter().map(TaskList::from).collect();
        Ok(Response::new(ListTaskListsResponse { task_lists, next_page_token }))
    }

    async fn update_task_list(&self, request: Request<UpdateTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let options = WriteOptions::of("UpdateTaskList", &request, &request.request_id, request.validate_only)?;
        self.write(owner, options, ListWrite::try_from(request)?).await
    }

    async fn delete_task_list(&self, request: Request<DeleteTaskListRequest>) -> Result<Response<TaskList>, Status> {
        let owner = self.0.caller(&request)?.user_id();
        let request = request.into_inner();
        let options = WriteOptions::of("DeleteTaskList", &request, &request.request_id, request.validate_only)?;
        self.write(owner, options, ListWrite::try_from(request)?).await
    }
}

fn encode(row: &ListRow) -> Vec<u8> {
    TaskList::from(row.clone()).encode_to_vec()
}

impl Lists {
    /// Does what a request says, and answers it, or gives the answer that it was given before.
    async fn write(&self, owner: Uuid, options: WriteOptions, write: ListWrite) -> Result<Response<TaskList>, Status> {
        let App { db, owner_queue, clock, watches, purge_after, max_lists, .. } = &*self.0;
        let now = clock.now();
        let (purge_time, max_lists, new_id) = (now + *purge_after, (*max_lists).into(), clock.new_id());
        let mutation = ListMutation { owner, now, purge_time, max_lists, options, write, new_id, encode };
        let outcome = match lists::execute(db, owner_queue, mutation).await? {
            Outcome::Done(row) => Outcome::Done(row.into()),
            Outcome::Replayed(bytes) => Outcome::Replayed(bytes),
        };
        watches.notify(owner);
        respond(outcome)
    }
}
