//! How much a user may have, and how often one may call.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{ListTaskListsRequest, ListTasksRequest, WatchTasksRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    calls::{batch, complete, create, delete, rename},
    support::{Service, User, titled},
};

on_each_database!(
    a_user_has_so_many_live_tasks_and_no_more,
    concurrent_creations_stop_at_the_quota,
    the_quota_is_of_each_user,
    what_comes_back_counts,
    a_deletion_of_a_family_or_of_a_list_frees_all_of_it,
    a_batch_is_counted_write_by_write,
    whoever_has_more_than_the_quota_can_still_change_it,
    a_user_has_so_many_lists_and_no_more,
    calls_are_limited_by_user,
);

async fn exceeds<T: std::fmt::Debug>(outcome: impl Future<Output = Result<T, Status>>) {
    assert_refused!(outcome.await, ResourceExhausted, "QUOTA_EXCEEDED");
}

async fn limited(database: &TestDatabase, max_tasks: &str) -> (Service, User) {
    let service = Service::start_with(database, &["--max-tasks", max_tasks]).await;
    let ann = service.user();
    (service, ann)
}

async fn a_user_has_so_many_live_tasks_and_no_more(database: TestDatabase) {
    let (_service, ann) = limited(&database, "3").await;
    let tasks = [ann.make("A").await, ann.make("B").await, ann.make("C").await];
    exceeds(ann.create(titled("D"))).await;
    exceeds(ann.create(titled("D"))).await;
    ann.complete(&tasks[0].id, "").await.expect("a completed task is live");
    exceeds(ann.create(titled("D"))).await;
    // Deleting helps, each time.
    for task in &tasks {
        ann.delete(&task.id, "").await.expect("a deletion");
        ann.make("D").await;
        exceeds(ann.create(titled("E"))).await;
    }
}

async fn concurrent_creations_stop_at_the_quota(database: TestDatabase) {
    let (_service, ann) = limited(&database, "10").await;
    let outcomes = join_all((0..30).map(|_| ann.create(titled("A")))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(ann.list_all(0, true).await.len(), 10);
}

async fn the_quota_is_of_each_user(database: TestDatabase) {
    let (service, ann) = limited(&database, "1").await;
    let bob = service.user();
    ann.make("A").await;
    bob.make("A").await;
    exceeds(ann.create(titled("B"))).await;
}

async fn what_comes_back_counts(database: TestDatabase) {
    let (_service, ann) = limited(&database, "3").await;
    let task = ann.make("A").await;
    ann.make_part(&task, "B").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let other = [ann.make("C").await, ann.make("D").await];
    exceeds(ann.undelete(&task.id, "")).await;
    assert!(ann.get(&task.id).await.expect("it is there").delete_time.is_some());
    ann.delete(&other[0].id, "").await.expect("a deletion");
    ann.undelete(&task.id, "").await.expect("there is room");
    ann.undelete(&task.id, "").await.expect("it is live");
    exceeds(ann.create(titled("E"))).await;
    exceeds(ann.undelete(&other[0].id, "")).await;
}

async fn a_deletion_of_a_family_or_of_a_list_frees_all_of_it(database: TestDatabase) {
    let (_service, ann) = limited(&database, "4").await;
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    let part = ann.make_part(&task, "B").await;
    ann.make_part(&part, "C").await;
    ann.make_in(&list, "D").await;
    ann.delete(&part.id, "").await.expect("a deletion");
    ann.batch([create(titled("1")), create(titled("2"))]).await.expect("there is room");
    exceeds(ann.create(titled("3"))).await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    ann.batch([create(titled("3")), create(titled("4"))]).await.expect("there is room");
    exceeds(ann.create(titled("5"))).await;
    // Into another list nothing goes, and nothing comes.
    let list = ann.make_list("Errands").await;
    ann.delete_list(&list.id, &ann.id.to_string()).await.expect("a deletion");
    exceeds(ann.create(titled("5"))).await;
}

async fn a_batch_is_counted_write_by_write(database: TestDatabase) {
    let (_service, ann) = limited(&database, "2").await;
    let task = ann.make("A").await;
    let two = || [create(titled("B")), create(titled("C"))];
    let outcome = ann.batch(two()).await;
    let info = outcome.as_ref().expect_err("it is one too many").get_details_error_info().expect("a reason");
    assert_eq!(info.metadata.get("write").map(String::as_str), Some("1"));
    assert_refused!(outcome, ResourceExhausted, "QUOTA_EXCEEDED", "writes[1].create.task");
    assert_eq!(ann.list_all(0, true).await, [&*task.id]);
    // There must be room at every write.
    let writes = two().into_iter().chain([delete(&task.id)]);
    let outcome = ann.batch(writes).await;
    assert_refused!(outcome, ResourceExhausted, "QUOTA_EXCEEDED", "writes[1].create.task");
    let writes = [delete(&task.id)].into_iter().chain(two());
    ann.batch(writes).await.expect("there is room");
    exceeds(ann.create(titled("D"))).await;
}

async fn whoever_has_more_than_the_quota_can_still_change_it(database: TestDatabase) {
    let (service, ann) = limited(&database, "3").await;
    let tasks = [ann.make("A").await, ann.make("B").await, ann.make("C").await];
    let lowered = Service::start_with(&database, &["--max-tasks", "1"]).await;
    service.stop().await;
    let ann = ann.at(&lowered);
    ann.batch([rename(&tasks[0].id, "D"), complete(&tasks[1].id)]).await.expect("nothing comes to it");
    ann.delete(&tasks[2].id, "").await.expect("a deletion");
    exceeds(ann.create(titled("E"))).await;
    ann.client.clone().batch_write_tasks(batch(tasks[..2].iter().map(|task| delete(&task.id)))).await.expect("a batch");
    ann.make("E").await;
}

async fn a_user_has_so_many_lists_and_no_more(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-lists", "3"]).await;
    let (ann, bob) = (service.user(), service.user());
    // The default list is one of them.
    let lists = [ann.make_list("A").await, ann.make_list("B").await];
    exceeds(ann.create_list("C")).await;
    bob.make_list("A").await;
    for list in &lists {
        ann.delete_list(&list.id, &ann.id.to_string()).await.expect("a deletion");
        ann.make_list("C").await;
        exceeds(ann.create_list("D")).await;
    }
    assert_eq!(ann.list_lists(0, "").await.expect("a page").task_lists.len(), 3);
}

/// How long a call must wait, if it was one too many.
fn wait(outcome: Result<(), Status>) -> Option<Duration> {
    let status = outcome.err()?;
    let wait = status.get_details_retry_info().and_then(|retry| retry.retry_delay).expect("it says how long to wait");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_refused!(Err::<(), _>(status), ResourceExhausted, "RATE_LIMITED");
    Some(wait)
}

async fn calls_are_limited_by_user(database: TestDatabase) {
    let service = Service::start_with(&database, &["--rate-limits", "on"]).await;
    let (ann, bob) = (service.user(), service.user());
    let list = async |user: &User| user.list(ListTasksRequest::default()).await.map(drop);
    for _ in 0..100 {
        list(&ann).await.expect("a hundred at once");
    }
    assert_eq!(wait(list(&ann).await), Some(Duration::from_millis(20)));
    // All calls of both services count together, and a batch is one call.
    assert!(wait(ann.create(titled("A")).await.map(drop)).is_some());
    assert!(wait(ann.lists.clone().list_task_lists(ListTaskListsRequest::default()).await.map(drop)).is_some());
    assert!(wait(ann.client.clone().watch_tasks(WatchTasksRequest::default()).await.map(drop)).is_some());
    list(&bob).await.expect("others are not affected");

    service.hands.advance(Duration::from_secs(1));
    ann.batch((0..100).map(|_| create(titled("A")))).await.expect("one call");
    for _ in 0..49 {
        list(&ann).await.expect("fifty a second");
    }
    assert_eq!(wait(list(&ann).await), Some(Duration::from_millis(20)));
    service.hands.advance(Duration::from_millis(20));
    list(&ann).await.expect("it has waited as long as it was told");
}
