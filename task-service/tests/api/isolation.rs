//! Users cannot see each other's data.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, DeleteTaskRequest, GetTaskRequest, ReopenTaskRequest, Task, UndeleteTaskRequest,
    UpdateTaskRequest,
};
use tonic::{Request, Status};

use crate::support::{Service, User, titled, with_revision};

on_each_database!(
    task_of_another_user_is_indistinguishable_from_a_missing_one,
    task_of_another_user_is_not_changed,
    list_contains_only_the_callers_tasks,
    malformed_ids_are_refused,
);

/// Calls every RPC that takes a task id, always with the same `x-request-id`.
async fn call_all_with_id(user: &User, id: &str, etag: &str) -> Vec<Result<Task, Status>> {
    fn with_request_id<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
        request
    }
    let (id, etag) = (id.to_owned(), etag.to_owned());
    let mut client = user.client.clone();
    let task = Task { id: id.clone(), etag: etag.clone(), ..titled("Mine now") };
    let delete = |allow_missing| {
        with_request_id(DeleteTaskRequest {
            id: id.clone(),
            etag: etag.clone(),
            allow_missing,
            ..DeleteTaskRequest::default()
        })
    };
    let results = [
        client.get_task(with_request_id(GetTaskRequest { id: id.clone() })).await,
        client
            .update_task(with_request_id(UpdateTaskRequest {
                task: Some(task),
                update_mask: None,
                ..UpdateTaskRequest::default()
            }))
            .await,
        client
            .complete_task(with_request_id(CompleteTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..CompleteTaskRequest::default()
            }))
            .await,
        client
            .reopen_task(with_request_id(ReopenTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..ReopenTaskRequest::default()
            }))
            .await,
        client
            .undelete_task(with_request_id(UndeleteTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..UndeleteTaskRequest::default()
            }))
            .await,
        client.delete_task(delete(false)).await,
        client.delete_task(delete(true)).await,
    ];
    results.into_iter().map(|result| result.map(tonic::Response::into_inner)).collect()
}

async fn task_of_another_user_is_indistinguishable_from_a_missing_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let active = ann.make("Buy milk").await;
    let deleted = ann.make("Buy oats").await;
    let deleted = ann.delete(&deleted.id, "").await.expect("a deletion");
    for task in [active, deleted] {
        for etag in ["", &task.etag, &with_revision(&task.etag, 9)] {
            let existing = call_all_with_id(&bob, &task.id, etag).await;
            let missing = call_all_with_id(&bob, &service.clock.new_id().to_string(), etag).await;
            for (existing, missing) in existing.into_iter().zip(missing) {
                match (existing, missing) {
                    (Ok(existing), Ok(missing)) => assert_eq!((existing, missing), (Task::default(), Task::default())),
                    (Err(existing), Err(missing)) => {
                        assert_eq!(existing.message(), missing.message());
                        assert_eq!(existing.details(), missing.details());
                        assert_refused!(Err::<(), _>(existing), NotFound, "TASK_NOT_FOUND");
                        assert_refused!(Err::<(), _>(missing), NotFound, "TASK_NOT_FOUND");
                    }
                    (existing, missing) => panic!("{existing:?} differs from {missing:?}"),
                }
            }
        }
    }
}

async fn task_of_another_user_is_not_changed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let task = ann.make("Buy milk").await;
    call_all_with_id(&bob, &task.id, &task.etag).await;
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn list_contains_only_the_callers_tasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (task_of_ann, task_of_bob) = (ann.make("Buy milk").await, bob.make("Buy oats").await);
    assert_eq!(ann.list_all(0, true).await, [task_of_ann.id]);
    assert_eq!(bob.list_all(0, true).await, [task_of_bob.id]);
}

async fn malformed_ids_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let bare = task.id.replace('-', "");
    for id in ["", "1", "\0", "' or 1=1 --", &bare, &format!("{{{}}}", task.id), &format!("{} ", task.id)] {
        for (index, result) in call_all_with_id(&ann, id, "").await.into_iter().enumerate() {
            let path = if index == 1 { "task.id" } else { "id" };
            assert_refused!(result, InvalidArgument, "VALIDATION_FAILED", path);
        }
    }
}
