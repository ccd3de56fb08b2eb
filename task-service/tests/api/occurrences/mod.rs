//! Recurring tasks: each occurrence is a task, and its completion creates the next one.

use service_kit::clock::Timestamp;
use taskey_proto::task::v1::{
    CompleteTaskRequest, Recurrence, SkipOccurrenceRequest, StopRecurrenceRequest, Task, UpdateTaskRequest,
    recurrence::{Basis, CatchUp},
    update_task_request::Scope,
};
use tonic::Status;

use crate::support::{Service, User, titled};

mod batch;
mod completion;
mod deleted;
mod late;
mod model;
mod races;
mod scopes;
mod series;
mod subtasks;

fn rule(rrule: &str) -> Recurrence {
    Recurrence { rrule: rrule.to_owned(), ..Recurrence::default() }
}

/// Returns the recurrence of a response.
fn stored(rrule: &str, basis: Basis, catch_up: CatchUp) -> Recurrence {
    Recurrence { rrule: rrule.to_owned(), basis: basis.into(), catch_up: catch_up.into() }
}

/// Returns a task that is due on a day and recurs.
fn recurring(due_date: &str, rrule: &str) -> Task {
    Task { due_date: due_date.to_owned(), recurrence: Some(rule(rrule)), ..titled("Water the plants") }
}

impl User {
    async fn make_recurring(&self, due_date: &str, rrule: &str) -> Task {
        self.create(recurring(due_date, rrule)).await.expect("the task is created")
    }

    async fn skip(&self, id: &str) -> Result<Task, Status> {
        let request = SkipOccurrenceRequest { id: id.to_owned(), ..SkipOccurrenceRequest::default() };
        Ok(self.client.clone().skip_occurrence(request).await?.into_inner())
    }

    async fn stop(&self, id: &str) -> Result<Task, Status> {
        let request = StopRecurrenceRequest { id: id.to_owned(), ..StopRecurrenceRequest::default() };
        Ok(self.client.clone().stop_recurrence(request).await?.into_inner())
    }

    /// Completes a task, and returns its next occurrence.
    async fn advance(&self, task: &Task) -> Task {
        let completed = self.complete(&task.id, "").await.expect("a completion");
        self.get(&completed.next_task_id).await.expect("there is a next occurrence")
    }

    async fn complete_with_subtasks(&self, id: &str) -> Result<Task, Status> {
        let request =
            CompleteTaskRequest { id: id.to_owned(), include_subtasks: true, ..CompleteTaskRequest::default() };
        Ok(self.client.clone().complete_task(request).await?.into_inner())
    }

    /// Updates the fields that are set in `task`.
    pub(crate) async fn update_in(&self, scope: Scope, task: Task) -> Result<Task, Status> {
        let request = UpdateTaskRequest { task: Some(task), scope: scope.into(), ..UpdateTaskRequest::default() };
        Ok(self.client.clone().update_task(request).await?.into_inner())
    }
}

/// Returns the current day in UTC.
fn today(service: &Service) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(now(service)).date()
}

fn now(service: &Service) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(service.clock.now().as_micros()).expect("a time")
}

fn to_message(time: jiff::Timestamp) -> prost_types::Timestamp {
    Timestamp::from_micros(time.as_microsecond()).into()
}

/// Advances the clock to a time.
fn advance_to(service: &Service, time: jiff::Timestamp) {
    let by = time.as_microsecond() - now(service).as_microsecond();
    service.manual_clock.advance(std::time::Duration::from_micros(by.try_into().expect("the time is in the future")));
}
