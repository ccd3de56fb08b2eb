//! Reminders after a restore.

use std::time::Duration;

use service_kit::{clock::Clock, testing::TestDatabase};
use taskey_proto::{
    auth::v1::TokenPair,
    task::v1::{CreateTaskRequest, GetTaskRequest, Reminder, Task, WatchTasksRequest, reminder::Time},
};
use tokio::time::timeout;

use super::Backup;
use crate::{
    end_to_end::processes::{Taskey, bearer},
    shim::Shim,
};

/// When a reminder fires after the backup, and how long after the backup it is restored.
const DELAY: Duration = Duration::from_secs(300);
const DOWNTIME_SECONDS: i64 = 600;

/// Limit for the firing of a reminder that is due.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Creates a task with a reminder after this delay.
async fn create(taskey: &Taskey, pair: &TokenPair, delay: Duration) -> Task {
    let time = Time::RemindTime((Clock::system().now() + delay).into());
    let reminders = vec![Reminder { time: Some(time), ..Reminder::default() }];
    let task = Some(Task { title: "Buy milk".to_owned(), reminders, ..Task::default() });
    let request = CreateTaskRequest { task, ..CreateTaskRequest::default() };
    taskey.tasks().create_task(bearer(&pair.access_token, request)).await.expect("created").into_inner()
}

/// Waits until the reminder of a task has fired, and returns the task.
async fn fired(taskey: &Taskey, pair: &TokenPair, id: &str) -> Task {
    let request = bearer(&pair.access_token, WatchTasksRequest::default());
    let mut watch = taskey.tasks().watch_tasks(request).await.expect("a watch").into_inner();
    let fired = async {
        loop {
            let message = watch.message().await.expect("the watch continues").expect("the watch continues");
            let mut tasks = message.changes.into_iter().filter_map(|change| change.task);
            if let Some(task) = tasks.find(|task| task.id == id && task.reminders[0].fire_time.is_some()) {
                return task;
            }
        }
    };
    timeout(WAIT_LIMIT, fired).await.expect("the reminder fires in time")
}

/// Creates a task whose reminder is due, and waits until it has fired, so that all others that were due have fired before.
async fn fire_another(taskey: &Taskey, pair: &TokenPair) {
    let task = create(taskey, pair, Duration::ZERO).await;
    fired(taskey, pair, &task.id).await;
}

async fn reminders(taskey: &Taskey, pair: &TokenPair, task: &Task) -> Vec<Reminder> {
    let request = bearer(&pair.access_token, GetTaskRequest { id: task.id.clone() });
    taskey.tasks().get_task(request).await.expect("it exists").into_inner().reminders
}

async fn assert_reminders_continue_after_a_restore(database: &TestDatabase) {
    let (shim, backup) = (Shim::new(), Backup::new(database));
    let taskey = Taskey::start_in(database, &shim.environment()).await;
    let ann = taskey.sign_up_and_log_in("ann@example.com").await;
    let before = create(&taskey, &ann, Duration::ZERO).await;
    let before = fired(&taskey, &ann, &before.id).await;
    let since = create(&taskey, &ann, DELAY).await;
    backup.create();
    taskey.stop().await;

    shim.step_clock(DOWNTIME_SECONDS);
    backup.restore();
    let taskey = Taskey::start_in(database, &shim.environment()).await;

    let ann = taskey.log_in("ann@example.com").await;
    let since = fired(&taskey, &ann, &since.id).await;
    assert!(since.reminders[0].late && !before.reminders[0].late);
    let taskey = taskey.kill_and_start_again().await;
    fire_another(&taskey, &ann).await;
    for task in [&before, &since] {
        assert_eq!(reminders(&taskey, &ann, task).await, task.reminders, "it has fired once");
    }
    taskey.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_continue_after_a_restore_on_sqlite() {
    assert_reminders_continue_after_a_restore(&TestDatabase::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_continue_after_a_restore_on_postgresql() {
    let Some(database) = TestDatabase::postgres().await else { return };
    assert_reminders_continue_after_a_restore(&database).await;
}
