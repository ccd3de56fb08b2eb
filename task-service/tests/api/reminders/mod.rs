//! Reminders.

use std::time::Duration;

use service_kit::{clock::Timestamp, testing::refusal};
use taskey_proto::task::v1::{
    AcknowledgeReminderRequest, Reminder, SnoozeReminderRequest, Task, TaskChange, reminder::Time,
};
use tokio::time::timeout;
use tonic::Status;

use crate::support::{Service, User, WAIT_TIMEOUT, pause, titled};

mod changes;
mod due;
mod firing;
mod occurrences;
mod replicas;
mod requests;

/// Well below the time after which a reminder is late.
const SOON: Duration = Duration::from_secs(30);

/// Returns a reminder at a time.
fn at(time: Timestamp) -> Reminder {
    Reminder { time: Some(Time::RemindTime(time.into())), ..Reminder::default() }
}

/// Returns a reminder before the due date.
fn before_due(seconds: i64) -> Reminder {
    Reminder { time: Some(Time::BeforeDue(prost_types::Duration { seconds, nanos: 0 })), ..Reminder::default() }
}

/// Returns a task with reminders.
fn with(reminders: Vec<Reminder>) -> Task {
    Task { reminders, ..titled("Buy milk") }
}

/// Parses a time in RFC 3339.
fn time(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().expect("a time").as_microsecond())
}

/// Moves the clock to a time.
fn set_clock(service: &Service, time: Timestamp) {
    service.manual_clock.advance(time.since(service.clock.now()));
}

/// Returns a response, unless the database was too busy: PostgreSQL serves the other tests at the same time.
fn unless_unavailable<T>(outcome: Result<T, Status>) -> Option<T> {
    outcome.map_err(|status| assert_eq!(refusal(&status).1, "STORE_UNAVAILABLE", "{status:?}")).ok()
}

/// The change feed of a user. It is read page by page, because a stream ends with the token of the call.
struct Feed {
    user: User,
    token: String,
}

impl Feed {
    /// Returns the feed from now on.
    async fn start(user: &User) -> Self {
        Self { user: user.clone(), token: user.current_sync_token().await }
    }

    /// Waits for changes.
    async fn next_changes(&mut self) -> Vec<TaskChange> {
        let read = async {
            loop {
                if let Some(page) = unless_unavailable(self.user.changes(&self.token, 500).await) {
                    self.token = page.next_sync_token;
                    if !page.changes.is_empty() {
                        return page.changes;
                    }
                }
                pause().await;
            }
        };
        timeout(WAIT_TIMEOUT, read).await.expect("changes arrive in time")
    }

    /// Waits for a change, which must be the only one, and returns the task.
    async fn next_task(&mut self) -> Task {
        let mut changes = self.next_changes().await;
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes.remove(0).task.expect("the task exists")
    }

    /// Fires a reminder of another task, whose time is the current time, and asserts that nothing else fires before it.
    async fn assert_nothing_fires(&mut self) {
        let probe = self.user.create(with(vec![at(self.user.clock().now())])).await.expect("a task");
        loop {
            let task = self.next_task().await;
            assert_eq!(task.id, probe.id);
            if task.reminders[0].fire_time.is_some() {
                return;
            }
        }
    }
}

impl User {
    async fn snooze(&self, task: &Task, index: usize, time: Timestamp) -> Result<Task, Status> {
        let (task_id, reminder_id) = (task.id.clone(), task.reminders[index].id.clone());
        let remind_time = Some(time.into());
        let request = SnoozeReminderRequest { task_id, reminder_id, remind_time, ..SnoozeReminderRequest::default() };
        Ok(self.client.clone().snooze_reminder(request).await?.into_inner())
    }

    async fn acknowledge(&self, task: &Task, index: usize) -> Result<Task, Status> {
        let (task_id, reminder_id) = (task.id.clone(), task.reminders[index].id.clone());
        let request = AcknowledgeReminderRequest { task_id, reminder_id, ..AcknowledgeReminderRequest::default() };
        Ok(self.client.clone().acknowledge_reminder(request).await?.into_inner())
    }

    /// Waits until a task has this number of reminders that have fired.
    async fn task_after_firings(&self, id: &str, count: usize) -> Task {
        let fired = async {
            loop {
                if let Some(task) = unless_unavailable(self.get(id).await)
                    && task.reminders.iter().filter(|reminder| reminder.fire_time.is_some()).count() == count
                {
                    return task;
                }
                pause().await;
            }
        };
        timeout(WAIT_TIMEOUT, fired).await.expect("the reminders fire in time")
    }
}
