//! Quotas and rate limits.

use std::time::Duration;

use futures::future::join_all;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CreateTaskListRequest, ListTaskListsRequest, ListTasksRequest, Task, TaskList, WatchTasksRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    calls::{batch, complete, create, delete, rename},
    support::{Service, User, titled},
};

on_each_database!(
    active_tasks_are_limited_by_the_quota,
    concurrent_creations_stop_at_the_quota,
    quota_is_per_user,
    undeleted_tasks_count_towards_the_quota,
    deleting_a_task_tree_or_a_list_frees_its_quota,
    quota_is_checked_at_each_write_of_a_batch,
    tasks_above_a_lowered_quota_can_still_be_changed,
    lists_are_limited_by_the_quota,
    calls_are_rate_limited_per_user,
    rows_are_rate_limited_per_user,
);

async fn assert_quota_exceeded<T: std::fmt::Debug>(outcome: impl Future<Output = Result<T, Status>>) {
    assert_refused!(outcome.await, ResourceExhausted, "QUOTA_EXCEEDED");
}

async fn start_with_quota(database: &TestDatabase, max_tasks: &str) -> (Service, User) {
    let service = Service::start_with(database, &["--max-tasks", max_tasks]).await;
    let ann = service.user();
    (service, ann)
}

async fn active_tasks_are_limited_by_the_quota(database: TestDatabase) {
    let (_service, ann) = start_with_quota(&database, "3").await;
    let tasks = [ann.make("A").await, ann.make("B").await, ann.make("C").await];
    assert_quota_exceeded(ann.create(titled("D"))).await;
    assert_quota_exceeded(ann.create(titled("D"))).await;
    ann.complete(&tasks[0].id, "").await.expect("a completed task still counts");
    assert_quota_exceeded(ann.create(titled("D"))).await;
    // Each deletion makes room for one task.
    for task in &tasks {
        ann.delete(&task.id, "").await.expect("a deletion");
        ann.make("D").await;
        assert_quota_exceeded(ann.create(titled("E"))).await;
    }
}

async fn concurrent_creations_stop_at_the_quota(database: TestDatabase) {
    let (_service, ann) = start_with_quota(&database, "10").await;
    let outcomes = join_all((0..30).map(|_| ann.create(titled("A")))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(ann.list_all(0, true).await.len(), 10);
}

async fn quota_is_per_user(database: TestDatabase) {
    let (service, ann) = start_with_quota(&database, "1").await;
    let bob = service.user();
    ann.make("A").await;
    bob.make("A").await;
    assert_quota_exceeded(ann.create(titled("B"))).await;
}

async fn undeleted_tasks_count_towards_the_quota(database: TestDatabase) {
    let (_service, ann) = start_with_quota(&database, "3").await;
    let task = ann.make("A").await;
    ann.make_subtask(&task, "B").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    let other = [ann.make("C").await, ann.make("D").await];
    assert_quota_exceeded(ann.undelete(&task.id, "")).await;
    assert!(ann.get(&task.id).await.expect("it exists").delete_time.is_some());
    ann.delete(&other[0].id, "").await.expect("a deletion");
    ann.undelete(&task.id, "").await.expect("there is room");
    ann.undelete(&task.id, "").await.expect("it is not deleted");
    assert_quota_exceeded(ann.create(titled("E"))).await;
    assert_quota_exceeded(ann.undelete(&other[0].id, "")).await;
}

async fn deleting_a_task_tree_or_a_list_frees_its_quota(database: TestDatabase) {
    let (_service, ann) = start_with_quota(&database, "4").await;
    let list = ann.make_list("Errands").await;
    let task = ann.make_in(&list, "A").await;
    let subtask = ann.make_subtask(&task, "B").await;
    ann.make_subtask(&subtask, "C").await;
    ann.make_in(&list, "D").await;
    ann.delete(&subtask.id, "").await.expect("a deletion");
    ann.batch([create(titled("1")), create(titled("2"))]).await.expect("there is room");
    assert_quota_exceeded(ann.create(titled("3"))).await;
    ann.delete_list(&list.id, "").await.expect("a deletion");
    ann.batch([create(titled("3")), create(titled("4"))]).await.expect("there is room");
    assert_quota_exceeded(ann.create(titled("5"))).await;
    // Moving the tasks of a deleted list neither frees nor uses quota.
    let list = ann.make_list("Errands").await;
    ann.delete_list(&list.id, &ann.id.to_string()).await.expect("a deletion");
    assert_quota_exceeded(ann.create(titled("5"))).await;
}

async fn quota_is_checked_at_each_write_of_a_batch(database: TestDatabase) {
    let (_service, ann) = start_with_quota(&database, "2").await;
    let task = ann.make("A").await;
    let two_creations = || [create(titled("B")), create(titled("C"))];
    let outcome = ann.batch(two_creations()).await;
    let info = outcome
        .as_ref()
        .expect_err("the second creation exceeds the quota")
        .get_details_error_info()
        .expect("a reason");
    assert_eq!(info.metadata.get("write").map(String::as_str), Some("1"));
    assert_refused!(outcome, ResourceExhausted, "QUOTA_EXCEEDED", "writes[1].create.task");
    assert_eq!(ann.list_all(0, true).await, [&*task.id]);
    // The quota must hold after every write, not only at the end.
    let writes = two_creations().into_iter().chain([delete(&task.id)]);
    let outcome = ann.batch(writes).await;
    assert_refused!(outcome, ResourceExhausted, "QUOTA_EXCEEDED", "writes[1].create.task");
    let writes = [delete(&task.id)].into_iter().chain(two_creations());
    ann.batch(writes).await.expect("there is room");
    assert_quota_exceeded(ann.create(titled("D"))).await;
}

async fn tasks_above_a_lowered_quota_can_still_be_changed(database: TestDatabase) {
    let (service, ann) = start_with_quota(&database, "3").await;
    let tasks = [ann.make("A").await, ann.make("B").await, ann.make("C").await];
    let lowered = Service::start_with(&database, &["--max-tasks", "1"]).await;
    service.stop().await;
    let ann = ann.connected_to(&lowered);
    ann.batch([rename(&tasks[0].id, "D"), complete(&tasks[1].id)]).await.expect("the number of tasks does not grow");
    ann.delete(&tasks[2].id, "").await.expect("a deletion");
    assert_quota_exceeded(ann.create(titled("E"))).await;
    ann.client.clone().batch_write_tasks(batch(tasks[..2].iter().map(|task| delete(&task.id)))).await.expect("a batch");
    ann.make("E").await;
}

async fn lists_are_limited_by_the_quota(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-lists", "3"]).await;
    let (ann, bob) = (service.user(), service.user());
    // The default list is one of them.
    let lists = [ann.make_list("A").await, ann.make_list("B").await];
    assert_quota_exceeded(ann.create_list("C")).await;
    bob.make_list("A").await;
    for list in &lists {
        ann.delete_list(&list.id, &ann.id.to_string()).await.expect("a deletion");
        ann.make_list("C").await;
        assert_quota_exceeded(ann.create_list("D")).await;
    }
    assert_eq!(ann.list_lists(0, "").await.expect("a page").task_lists.len(), 3);
}

/// Returns the retry delay if the call was rate limited, or `None` if it succeeded.
fn rate_limit_delay(outcome: Result<(), Status>) -> Option<Duration> {
    let status = outcome.err()?;
    let delay =
        status.get_details_retry_info().and_then(|retry| retry.retry_delay).expect("a rate limit error has a delay");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_refused!(Err::<(), _>(status), ResourceExhausted, "RATE_LIMITED");
    Some(delay)
}

async fn calls_are_rate_limited_per_user(database: TestDatabase) {
    let service = Service::start_with(&database, &["--rate-limits", "on"]).await;
    let (ann, bob) = (service.user(), service.user());
    let list = async |user: &User| user.list(ListTasksRequest::default()).await.map(drop);
    for _ in 0..100 {
        list(&ann).await.expect("a burst of a hundred");
    }
    assert_eq!(rate_limit_delay(list(&ann).await), Some(Duration::from_millis(20)));
    // All calls to both services share one limit, and a batch is one call.
    assert!(rate_limit_delay(ann.create(titled("A")).await.map(drop)).is_some());
    assert!(
        rate_limit_delay(ann.lists.clone().list_task_lists(ListTaskListsRequest::default()).await.map(drop)).is_some()
    );
    assert!(rate_limit_delay(ann.client.clone().watch_tasks(WatchTasksRequest::default()).await.map(drop)).is_some());
    list(&bob).await.expect("others are not affected");

    service.manual_clock.advance(Duration::from_secs(1));
    ann.batch((0..100).map(|_| create(titled("A")))).await.expect("one call");
    for _ in 0..49 {
        list(&ann).await.expect("fifty a second");
    }
    assert_eq!(rate_limit_delay(list(&ann).await), Some(Duration::from_millis(20)));
    service.manual_clock.advance(Duration::from_millis(20));
    list(&ann).await.expect("the retry delay has passed");
}

async fn rows_are_rate_limited_per_user(database: TestDatabase) {
    let flags = ["--rate-limits", "on", "--call-rate", "1000000+1000000/s", "--row-rate", "30+6/m"];
    let service = Service::start_with(&database, &flags).await;
    let (ann, bob) = (service.user(), service.user());
    // Each call of a batch is one call, but its rows count.
    ann.batch((0..20).map(|_| create(titled("A")))).await.expect("within the limit");
    let tasks = ann.batch((0..20).map(|_| create(titled("B")))).await.expect("a call that exceeds the limit succeeds");
    for refused in [ann.create(titled("C")).await, ann.complete(&tasks[0].id, "").await] {
        let status = refused.expect_err("the limit is exceeded");
        assert_eq!(status.get_error_details().error_info().expect("a reason").reason, "RATE_LIMITED");
        let wait = status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("a retry delay");
        assert!((Duration::from_secs(60)..Duration::from_secs(180)).contains(&wait), "{wait:?}");
    }
    let request = CreateTaskListRequest { task_list: Some(TaskList::default()), ..CreateTaskListRequest::default() };
    assert_refused!(ann.lists.clone().create_task_list(request).await, ResourceExhausted, "RATE_LIMITED");
    ann.get(&tasks[0].id).await.expect("reads are not limited");
    bob.make("A").await;
    service.manual_clock.advance(Duration::from_secs(180));
    ann.make("C").await;
    // Long texts count as several rows.
    let (long, mut created) = (Task { notes: "日".repeat(4000), ..titled("D") }, 0);
    while bob.create(long.clone()).await.is_ok() {
        created += 1;
    }
    assert!((3..=6).contains(&created), "{created}");
    assert_refused!(bob.create(titled("E")).await, ResourceExhausted, "RATE_LIMITED");
}
