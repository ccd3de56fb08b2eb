//! What a user can see of another: nothing.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, DeleteTaskRequest, GetTaskRequest, ReopenTaskRequest, Task, UndeleteTaskRequest,
    UpdateTaskRequest,
};
use tonic::{Request, Status};

use crate::support::{Service, User, titled};

on_each_database!(
    another_users_task_looks_exactly_like_a_missing_one,
    another_users_task_stays_as_it_is,
    a_list_holds_the_callers_tasks_alone,
    ids_of_a_wrong_form_are_refused,
);

/// What every RPC that takes an id answers to it, with the same request id each time.
async fn touch(user: &User, id: &str, etag: &str) -> Vec<Result<Task, Status>> {
    fn named<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-request-id", "the-same".parse().expect("ASCII"));
        request
    }
    let (id, etag) = (id.to_owned(), etag.to_owned());
    let mut client = user.client.clone();
    let task = Task { id: id.clone(), etag: etag.clone(), ..titled("Mine now") };
    let delete = |allow_missing| {
        named(DeleteTaskRequest { id: id.clone(), etag: etag.clone(), allow_missing, ..DeleteTaskRequest::default() })
    };
    let answers = [
        client.get_task(named(GetTaskRequest { id: id.clone() })).await,
        client
            .update_task(named(UpdateTaskRequest {
                task: Some(task),
                update_mask: None,
                ..UpdateTaskRequest::default()
            }))
            .await,
        client
            .complete_task(named(CompleteTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..CompleteTaskRequest::default()
            }))
            .await,
        client
            .reopen_task(named(ReopenTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..ReopenTaskRequest::default()
            }))
            .await,
        client
            .undelete_task(named(UndeleteTaskRequest {
                id: id.clone(),
                etag: etag.clone(),
                ..UndeleteTaskRequest::default()
            }))
            .await,
        client.delete_task(delete(false)).await,
        client.delete_task(delete(true)).await,
    ];
    answers.into_iter().map(|answer| answer.map(tonic::Response::into_inner)).collect()
}

async fn another_users_task_looks_exactly_like_a_missing_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let live = ann.make("Buy milk").await;
    let deleted = ann.make("Buy oats").await;
    let deleted = ann.delete(&deleted.id, "").await.expect("a deletion");
    for hers in [live, deleted] {
        for etag in ["", &hers.etag, "\"9\""] {
            let to_hers = touch(&bob, &hers.id, etag).await;
            let to_none = touch(&bob, &service.clock.new_id().to_string(), etag).await;
            for (hers, none) in to_hers.into_iter().zip(to_none) {
                match (hers, none) {
                    (Ok(hers), Ok(none)) => assert_eq!((hers, none), (Task::default(), Task::default())),
                    (Err(hers), Err(none)) => {
                        assert_eq!(hers.message(), none.message());
                        assert_eq!(hers.details(), none.details());
                        assert_refused!(Err::<(), _>(hers), NotFound, "TASK_NOT_FOUND");
                        assert_refused!(Err::<(), _>(none), NotFound, "TASK_NOT_FOUND");
                    }
                    (hers, none) => panic!("{hers:?} is told from {none:?}"),
                }
            }
        }
    }
}

async fn another_users_task_stays_as_it_is(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let task = ann.make("Buy milk").await;
    touch(&bob, &task.id, &task.etag).await;
    assert_eq!(ann.get(&task.id).await.expect("it is there"), task);
}

async fn a_list_holds_the_callers_tasks_alone(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (hers, his) = (ann.make("Buy milk").await, bob.make("Buy oats").await);
    assert_eq!(ann.list_all(0, true).await, [hers.id]);
    assert_eq!(bob.list_all(0, true).await, [his.id]);
}

async fn ids_of_a_wrong_form_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let bare = task.id.replace('-', "");
    for id in ["", "1", "\0", "' or 1=1 --", &bare, &format!("{{{}}}", task.id), &format!("{} ", task.id)] {
        for (index, answer) in touch(&ann, id, "").await.into_iter().enumerate() {
            let path = if index == 1 { "task.id" } else { "id" };
            assert_refused!(answer, InvalidArgument, "VALIDATION_FAILED", path);
        }
    }
}
