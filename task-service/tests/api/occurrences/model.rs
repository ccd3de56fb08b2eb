//! Random sequences of calls on the occurrences of a series, compared with a model that takes the days from
//! `PreviewOccurrences`.

use std::time::Duration;

use jiff::{ToSpan, civil::Date};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, PreviewOccurrencesRequest, Recurrence, Task,
    recurrence::{Basis, CatchUp},
    update_task_request::Scope,
};
use tokio::{runtime::Handle, task::block_in_place};

use super::{recurring, rule, today};
use crate::support::{Service, User};

on_each_database!(series_match_the_model);

const SEQUENCES: u32 = 24;

/// The days of a sequence are among the first 100 of each.
const RULES: [&str; 8] = [
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;SKIP=OMIT",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH",
    "FREQ=DAILY;INTERVAL=4",
    "FREQ=WEEKLY;COUNT=5",
    "FREQ=DAILY;INTERVAL=5;COUNT=7",
    "FREQ=YEARLY;BYYEARDAY=-1,100,200,300",
];

#[derive(Clone, Debug)]
enum Step {
    Complete,
    /// Sent twice, with the same request id.
    CompleteTwice,
    /// Reopens the occurrence before, and completes it again.
    CompleteAgain,
    Skip,
    /// Moves this occurrence by this number of days.
    Move(i32),
    /// Moves this occurrence and the following ones.
    MoveFollowing(i32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Complete),
        1 => Just(Step::CompleteTwice),
        1 => Just(Step::CompleteAgain),
        2 => Just(Step::Skip),
        1 => (-9..9).prop_map(Step::Move),
        1 => (1..9).prop_map(Step::MoveFollowing),
        3 => (1_u64..20).prop_map(Step::Wait),
    ]
}

/// The open occurrence.
struct Model {
    days: Vec<Date>,
    slot: Date,
    due: Date,
    catch_up: CatchUp,
    has_ended: bool,
}

impl Model {
    fn next(&self, today: Date) -> Option<Date> {
        let is_overdue = |day: Date| self.catch_up == CatchUp::Skip && day < today;
        self.days.iter().copied().find(|day| *day > self.slot && !is_overdue(*day))
    }

    fn advance(&mut self, today: Date) {
        match self.next(today) {
            Some(next) => (self.slot, self.due) = (next, next),
            None => self.has_ended = true,
        }
    }
}

async fn preview(user: &User, rrule: &str, start: Date) -> Vec<Date> {
    let request = PreviewOccurrencesRequest {
        rrule: rrule.to_owned(),
        start_date: start.to_string(),
        page_size: 100,
        ..PreviewOccurrencesRequest::default()
    };
    let dates = user.client.clone().preview_occurrences(request).await.expect("a preview").into_inner().dates;
    dates.iter().map(|date| date.parse().expect("a date")).collect()
}

async fn series_match_the_model(database: TestDatabase) {
    let service = Service::start_with(&database, &["--revocation-max-staleness", "15m"]).await;
    let catch_up = select(vec![CatchUp::Skip, CatchUp::Each]);
    let strategy = (select(&RULES[..]), catch_up, -3..40_i32, vec(step(), 1..16));
    let config = Config { cases: SEQUENCES, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let outcome = block_in_place(|| {
        TestRunner::new(config).run(&strategy, |(rrule, catch_up, offset, steps)| {
            Handle::current().block_on(Box::pin(run_sequence(&service, rrule, catch_up, offset, steps)))
        })
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    service.stop().await;
}

async fn run_sequence(
    service: &Service,
    rrule: &str,
    catch_up: CatchUp,
    offset: i32,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let user = service.user();
    let shift = |date: Date, days: i32| date.checked_add(days.days()).expect("a date");
    let due = shift(today(service), offset);
    let recurrence = Recurrence { catch_up: catch_up.into(), basis: Basis::Due.into(), ..rule(rrule) };
    let task = Task { recurrence: Some(recurrence), ..recurring(&due.to_string(), rrule) };
    let mut task = user.create(task).await.expect("the task is created");
    let mut model = Model { days: preview(&user, rrule, due).await, slot: due, due, catch_up, has_ended: false };
    let mut completed: Vec<Task> = Vec::new();
    let mut count = 1;
    for step in steps {
        if model.has_ended {
            break;
        }
        let due_on = |date: Date| Task { id: task.id.clone(), due_date: date.to_string(), ..Task::default() };
        match step {
            Step::Wait(days) => service.manual_clock.advance(Duration::from_secs(days * 24 * 3600)),
            Step::Move(days) => {
                model.due = shift(model.due, days);
                user.update_in(Scope::This, due_on(model.due)).await.expect("an update");
            }
            Step::MoveFollowing(days) => {
                model.due = shift(model.due, days);
                model.slot = model.due;
                model.days = preview(&user, rrule, model.due).await;
                user.update_in(Scope::Following, due_on(model.due)).await.expect("an update");
            }
            Step::Skip => {
                let is_last = model.next(today(service)).is_none();
                prop_assert_eq!(user.skip(&task.id).await.is_err(), is_last);
                if !is_last {
                    model.advance(today(service));
                }
            }
            Step::Complete | Step::CompleteTwice => {
                let id = task.id.clone();
                let request = CompleteTaskRequest { id, request_id: user.new_id(), ..CompleteTaskRequest::default() };
                let calls = if matches!(step, Step::Complete) { 1 } else { 2 };
                let mut ended = Task::default();
                for _ in 0..calls {
                    ended =
                        user.client.clone().complete_task(request.clone()).await.expect("a completion").into_inner();
                }
                model.advance(today(service));
                prop_assert_eq!(ended.next_task_id.is_empty(), model.has_ended);
                if !model.has_ended {
                    count += 1;
                    task = user.get(&ended.next_task_id).await.expect("there is a next occurrence");
                }
                completed.push(ended);
            }
            Step::CompleteAgain => {
                let Some(before) = completed.last() else { continue };
                user.reopen(&before.id, "").await.expect("a reopening");
                let again = user.complete(&before.id, "").await.expect("a completion");
                prop_assert_eq!(&again.next_task_id, &before.next_task_id);
            }
        }
        if !model.has_ended {
            task = user.get(&task.id).await.expect("it exists");
            prop_assert_eq!(&task.due_date, &model.due.to_string());
            prop_assert_eq!(&task.occurrence_date, &model.slot.to_string());
        }
        prop_assert_eq!(user.list_all(0, true).await.len(), count);
    }
    Ok(())
}
