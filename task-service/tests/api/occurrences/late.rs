//! Occurrences that are completed late or early.

use std::time::Duration;

use jiff::{ToSpan, civil::Date, tz::TimeZone};
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    Recurrence, Task,
    recurrence::{Basis, CatchUp},
};

use super::{advance_to, now, recurring, rule, to_message, today};
use crate::support::{Service, titled};

on_each_database!(
    late_completion_leaves_out_what_is_overdue,
    late_completion_catches_up_with_each_occurrence,
    early_completion_does_not_move_the_next_occurrence,
    next_occurrence_is_counted_from_the_completion,
    completion_counts_occurrences,
    the_31st_in_santiago_never_drifts_although_it_is_always_late,
    time_of_day_stays_the_same_when_clocks_change,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

fn day(date: Date, days: i32) -> String {
    date.checked_add(days.days()).expect("a date").to_string()
}

fn counted(due_date: &str, rrule: &str, basis: Basis, catch_up: CatchUp) -> Task {
    let recurrence = Recurrence { basis: basis.into(), catch_up: catch_up.into(), ..rule(rrule) };
    Task { recurrence: Some(recurrence), ..recurring(due_date, rrule) }
}

async fn late_completion_leaves_out_what_is_overdue(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, start) = (service.user(), today(&service));
    let task = ann.make_recurring(&start.to_string(), "FREQ=DAILY;INTERVAL=3").await;
    service.manual_clock.advance(DAY * 10);
    let next = ann.advance(&task).await;
    assert_eq!(next.due_date, day(start, 12));
    // What is due today is not overdue.
    service.manual_clock.advance(DAY * 5);
    assert_eq!(ann.advance(&next).await.due_date, day(start, 15));
}

async fn late_completion_catches_up_with_each_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, start) = (service.user(), today(&service));
    let task = counted(&start.to_string(), "FREQ=DAILY;INTERVAL=3", Basis::Due, CatchUp::Each);
    let mut task = ann.create(task).await.expect("the task is created");
    service.manual_clock.advance(DAY * 10);
    for days in [3, 6, 9, 12, 15] {
        task = ann.advance(&task).await;
        assert_eq!((&task.due_date, &task.occurrence_date), (&day(start, days), &day(start, days)));
    }
}

async fn early_completion_does_not_move_the_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, start) = (service.user(), today(&service));
    let task = ann.make_recurring(&day(start, 5), "FREQ=DAILY;INTERVAL=3").await;
    assert_eq!(ann.advance(&task).await.due_date, day(start, 8));
}

async fn next_occurrence_is_counted_from_the_completion(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, start) = (service.user(), today(&service));
    let task = counted(&start.to_string(), "FREQ=DAILY;INTERVAL=3", Basis::Completion, CatchUp::Skip);
    let task = ann.create(task).await.expect("the task is created");
    assert_eq!(task.recurrence_text, "every 3 days, counted from the completion");
    service.manual_clock.advance(DAY * 10);
    let next = ann.advance(&task).await;
    assert_eq!(next.due_date, day(start, 13));
    // Earlier than it is due.
    service.manual_clock.advance(DAY);
    assert_eq!(ann.advance(&next).await.due_date, day(start, 14));
}

async fn completion_counts_occurrences(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, start) = (service.user(), today(&service));
    let task = counted(&start.to_string(), "FREQ=DAILY;COUNT=3", Basis::Completion, CatchUp::Skip);
    let task = ann.create(task).await.expect("the task is created");
    let third = ann.advance(&ann.advance(&task).await).await;
    assert_eq!(ann.complete(&third.id, "").await.expect("a completion").next_task_id, "");
}

async fn the_31st_in_santiago_never_drifts_although_it_is_always_late(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let zone = TimeZone::get("America/Santiago").expect("the zone exists");
    let start = Date::new(today(&service).year() + 1, 1, 31).expect("a date");
    let anchor = start.at(23, 30, 0, 0);
    let due_time = Some(to_message(zone.to_timestamp(anchor).expect("a time")));
    let time_zone = "America/Santiago".to_owned();
    let task = Task { due_time, time_zone, recurrence: Some(rule("FREQ=MONTHLY")), ..titled("Pay the rent") };
    let mut task = ann.create(task).await.expect("the task is created");
    for month in 0..=120 {
        let expected = start.first_of_month().checked_add(month.months()).expect("a date").last_of_month();
        let expected = expected.to_datetime(anchor.time());
        let due = zone.to_timestamp(expected).expect("a time");
        assert_eq!(task.due_time, Some(to_message(due)), "{month}");
        assert_eq!(task.occurrence_date, expected.date().to_string());
        // 1 to 27 days late.
        let late = i64::from(month % 27 + 1) * 24;
        advance_to(&service, due.checked_add(late.hours()).expect("a time"));
        task = ann.advance(&task).await;
    }
}

async fn time_of_day_stays_the_same_when_clocks_change(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let zone = TimeZone::get("Europe/Berlin").expect("the zone exists");
    // Clocks change on the last Sunday of March, at 2:00.
    let march = Date::new(today(&service).year() + 1, 3, 31).expect("a date");
    let sunday = march.checked_sub(i64::from(march.weekday().to_sunday_zero_offset()).days()).expect("a date");
    let saturday = sunday.yesterday().expect("a date");
    let at = |date: Date, hour: i8| zone.to_timestamp(date.at(hour, 30, 0, 0)).expect("a time");
    let due_time = Some(to_message(at(saturday, 2)));
    let time_zone = "Europe/Berlin".to_owned();
    let task = Task { due_time, time_zone, recurrence: Some(rule("FREQ=DAILY")), ..titled("Back up") };
    let task = ann.create(task).await.expect("the task is created");
    assert!(at(saturday, 2) > now(&service));
    // 2:30 is skipped.
    let skipped = ann.advance(&task).await;
    assert_eq!(skipped.due_time, Some(to_message(at(sunday, 3))));
    let monday = ann.advance(&skipped).await;
    assert_eq!(monday.due_time, Some(to_message(at(sunday.tomorrow().expect("a date"), 2))));
}
