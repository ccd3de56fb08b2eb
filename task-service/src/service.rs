//! The RPCs: each parses its request, acts on the store and responds.

use std::time::Duration;

use service_kit::{clock::Clock, db::Db, interceptor::Caller, page::PageTokens};
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{
        CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, GetTaskRequest, ListTasksRequest, ListTasksResponse,
        ReopenTaskRequest, Task, UndeleteTaskRequest, UpdateTaskRequest, task_service_server::TaskService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    model::{ListQuery, NewTask, Target, TaskUpdate},
    page, store,
};

/// `taskey.task.v1.TaskService`.
pub(crate) struct Tasks {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) page_tokens: PageTokens,
    /// How long a deleted task can be undeleted.
    pub(crate) purge_after: Duration,
    /// A page ends before it gets larger.
    pub(crate) max_response_bytes: usize,
}

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn create_task(&self, request: Request<CreateTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let task = NewTask::try_from(request.into_inner())?;
        let row = store::create(&self.db, owner, self.clock.now(), self.clock.new_id(), task).await?;
        Ok(Response::new(row.into()))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let target = Target::parse("id", &request.into_inner().id, "")?;
        let row = store::get(&self.db, owner, self.clock.now(), target.id).await?;
        Ok(Response::new(row.into()))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let query = ListQuery::try_from(request.into_inner())?;
        let after = self.page_tokens.open(owner, &query.arguments(), &query.page_token)?;
        let rows = store::list(&self.db, owner, self.clock.now(), &query, after).await?;
        Ok(Response::new(page::fill(&self.page_tokens, owner, self.max_response_bytes, &query, rows)))
    }

    async fn update_task(&self, request: Request<UpdateTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let update = TaskUpdate::try_from(request.into_inner())?;
        let row = store::update(&self.db, owner, self.clock.now(), update).await?;
        Ok(Response::new(row.into()))
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let DeleteTaskRequest { id, etag, allow_missing } = request.into_inner();
        let target = Target::parse("id", &id, &etag)?;
        let now = self.clock.now();
        match store::delete(&self.db, owner, now, target, now + self.purge_after, allow_missing).await {
            Ok(row) => Ok(Response::new(row.into())),
            Err(refusal) if allow_missing && refusal.reason() == ErrorReason::TaskNotFound => {
                Ok(Response::new(Task::default()))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn undelete_task(&self, request: Request<UndeleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let UndeleteTaskRequest { id, etag } = request.into_inner();
        let target = Target::parse("id", &id, &etag)?;
        let row = store::undelete(&self.db, owner, self.clock.now(), target).await?;
        Ok(Response::new(row.into()))
    }

    async fn complete_task(&self, request: Request<CompleteTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let CompleteTaskRequest { id, etag } = request.into_inner();
        let target = Target::parse("id", &id, &etag)?;
        let row = store::complete(&self.db, owner, self.clock.now(), target).await?;
        Ok(Response::new(row.into()))
    }

    async fn reopen_task(&self, request: Request<ReopenTaskRequest>) -> Result<Response<Task>, Status> {
        let owner = Caller::of(&request)?.user_id();
        let ReopenTaskRequest { id, etag } = request.into_inner();
        let target = Target::parse("id", &id, &etag)?;
        let row = store::reopen(&self.db, owner, self.clock.now(), target).await?;
        Ok(Response::new(row.into()))
    }
}
