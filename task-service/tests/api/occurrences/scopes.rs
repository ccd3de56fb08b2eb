//! Updates of one occurrence, or of the following ones too.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, UpdateTaskRequest, task::Priority, update_task_request::Scope};

use super::{recurring, rule};
use crate::support::{Service, titled};

on_each_database!(
    moved_occurrence_does_not_move_the_following_ones,
    following_occurrences_move_with_the_new_anchor,
    texts_apply_to_the_following_occurrences_by_default,
    texts_of_one_occurrence_do_not_apply_to_the_following_ones,
    time_zone_of_one_occurrence_does_not_apply_to_the_following_ones,
    a_new_time_zone_keeps_the_due_times,
    a_new_time_zone_moves_the_anchor_by_the_time_of_this_occurrence,
    a_new_anchor_is_in_the_time_zone_of_the_series,
    skip_restores_what_was_changed_for_the_skipped_occurrence,
    scope_must_fit_the_recurrence,
);

fn due(id: &str, due_date: &str) -> Task {
    Task { id: id.to_owned(), due_date: due_date.to_owned(), ..Task::default() }
}

async fn moved_occurrence_does_not_move_the_following_ones(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut task = ann.make_recurring("2090-01-02", "FREQ=WEEKLY").await;
    for (scope, moved, next) in [
        (Scope::Unspecified, "2090-01-04", "2090-01-09"),
        (Scope::This, "2090-01-20", "2090-01-16"),
        (Scope::This, "2090-01-10", "2090-01-23"),
    ] {
        let by_rule = task.occurrence_date.clone();
        let updated = ann.update_in(scope, due(&task.id, moved)).await.expect("an update");
        assert_eq!((&updated.due_date[..], updated.occurrence_date), (moved, by_rule));
        task = ann.advance(&task).await;
        assert_eq!((&task.due_date[..], &task.occurrence_date[..]), (next, next));
    }
    // A time for one occurrence, and days for the following ones.
    let timed = Task { due_time: Some("2090-01-25T10:00:00Z".parse().expect("a time")), ..due(&task.id, "") };
    assert_eq!(ann.update_in(Scope::This, timed).await.expect("an update").due_date, "");
    let next = ann.advance(&task).await;
    assert_eq!((&next.due_date[..], next.due_time), ("2090-01-30", None));
}

async fn following_occurrences_move_with_the_new_anchor(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-02", "FREQ=WEEKLY").await;
    let updated = ann.update_in(Scope::Following, due(&task.id, "2090-01-04")).await.expect("an update");
    assert_eq!((&updated.occurrence_date[..], &updated.series_id), ("2090-01-04", &task.series_id));
    assert_eq!(updated.recurrence_text, "every week on Wednesday");
    let next = ann.advance(&updated).await;
    assert_eq!(next.due_date, "2090-01-11");
    // The same due date again does not set another anchor.
    let monthly = ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await;
    let february = ann.advance(&monthly).await;
    ann.update_in(Scope::Following, due(&february.id, "2090-02-28")).await.expect("an update");
    assert_eq!(ann.advance(&february).await.due_date, "2090-03-31");
}

async fn texts_apply_to_the_following_occurrences_by_default(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for scope in [Scope::Unspecified, Scope::Following] {
        let task = ann.make_recurring("2090-01-02", "FREQ=WEEKLY").await;
        let renamed = Task { id: task.id.clone(), notes: "twice".to_owned(), ..titled("Water the lawn") };
        ann.update_in(scope, renamed).await.expect("an update");
        let next = ann.advance(&task).await;
        assert_eq!((&next.title[..], &next.notes[..]), ("Water the lawn", "twice"));
    }
}

async fn texts_of_one_occurrence_do_not_apply_to_the_following_ones(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let labels = vec!["garden".to_owned()];
    let task = Task { labels: labels.clone(), notes: "usual".to_owned(), ..recurring("2090-01-02", "FREQ=WEEKLY") };
    let task = ann.create(task).await.expect("the task is created");
    for title in ["Ask Bob", "Ask Eve"] {
        let only_now = Task {
            id: task.id.clone(),
            notes: "on holiday".to_owned(),
            priority: Priority::High.into(),
            labels: vec!["away".to_owned()],
            ..titled(title)
        };
        assert_eq!(ann.update_in(Scope::This, only_now).await.expect("an update").title, title);
    }
    let lasting = Task { id: task.id.clone(), notes: "two cans".to_owned(), ..Task::default() };
    ann.update_in(Scope::Following, lasting).await.expect("an update");
    let next = ann.advance(&task).await;
    assert_eq!((&next.title, &next.notes[..]), (&task.title, "two cans"));
    assert_eq!((next.priority(), &next.labels), (Priority::Unspecified, &labels));
    assert_eq!(ann.get(&task.id).await.expect("it exists").title, "Ask Eve");
    assert_eq!(ann.advance(&next).await.title, task.title);
}

/// A task that is due at 9:00 in Berlin each day.
fn daily_in_berlin() -> Task {
    Task {
        due_time: Some("2090-01-02T08:00:00Z".parse().expect("a time")),
        time_zone: "Europe/Berlin".to_owned(),
        recurrence: Some(rule("FREQ=DAILY")),
        ..titled("Call")
    }
}

async fn time_zone_of_one_occurrence_does_not_apply_to_the_following_ones(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let time = |text: &str| Some(text.parse().expect("a time"));
    let in_zone = |zone: &str, task: &Task| Task { time_zone: zone.to_owned(), ..due(&task.id, "") };
    let task = ann.create(daily_in_berlin()).await.expect("the task is created");
    ann.update_in(Scope::This, in_zone("Asia/Tokyo", &task)).await.expect("an update");
    let next = ann.advance(&task).await;
    assert_eq!((next.due_time, &next.time_zone[..]), (time("2090-01-03T08:00:00Z"), "Europe/Berlin"));
    // At 17:00 in the new zone from then on.
    ann.update_in(Scope::Following, in_zone("Asia/Tokyo", &next)).await.expect("an update");
    let next = ann.advance(&next).await;
    assert_eq!((next.due_time, &next.time_zone[..]), (time("2090-01-04T08:00:00Z"), "Asia/Tokyo"));
}

/// Returns a task that is due at a time, and recurs.
fn timed(due_time: &str, rrule: &str) -> Task {
    Task { due_time: Some(due_time.parse().expect("a time")), recurrence: Some(rule(rrule)), ..titled("Call") }
}

async fn a_new_time_zone_keeps_the_due_times(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let time = |text: &str| Some(text.parse().expect("a time"));
    let zone = "America/New_York";
    for scope in [Scope::Unspecified, Scope::Following] {
        for (rrule, due_time, expected) in [
            ("FREQ=DAILY", "2090-01-02T12:00:00Z", ["2090-01-03T12:00:00Z", "2090-01-04T12:00:00Z"]),
            // At 9:00 in New York, whose clocks change on March 12, at 2:00.
            ("FREQ=DAILY", "2090-03-11T14:00:00Z", ["2090-03-12T13:00:00Z", "2090-03-13T13:00:00Z"]),
            // The last day of the month in New York.
            ("FREQ=MONTHLY", "2090-04-01T01:00:00Z", ["2090-05-01T01:00:00Z", "2090-06-01T01:00:00Z"]),
            // Sundays in New York.
            ("FREQ=WEEKLY", "2090-01-02T01:00:00Z", ["2090-01-09T01:00:00Z", "2090-01-16T01:00:00Z"]),
            ("FREQ=DAILY;BYHOUR=9", "2090-01-02T09:00:00Z", ["2090-01-03T14:00:00Z", "2090-01-04T14:00:00Z"]),
        ] {
            let task = ann.create(timed(due_time, rrule)).await.expect("the task is created");
            let moved = Task { id: task.id.clone(), time_zone: zone.to_owned(), ..Task::default() };
            let updated = ann.update_in(scope, moved).await.expect("an update");
            assert_eq!((updated.due_time, &updated.series_id), (task.due_time, &task.series_id));
            let next = ann.advance(&updated).await;
            let skipped = ann.skip(&next.id).await.expect("a skip");
            assert_eq!([next.due_time, skipped.due_time], expected.map(time), "{rrule} {due_time}");
        }
    }
}

async fn a_new_time_zone_moves_the_anchor_by_the_time_of_this_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let time = |text: &str| Some(text.parse().expect("a time"));
    // At 9:00 in Berlin, on the last day of the month.
    let january =
        Task { time_zone: "Europe/Berlin".to_owned(), ..timed("2090-01-31T08:00:00Z", "FREQ=MONTHLY;COUNT=6") };
    let january = ann.create(january).await.expect("the task is created");
    let april = ann.advance(&ann.advance(&ann.advance(&january).await).await).await;
    assert_eq!(april.due_time, time("2090-04-30T07:00:00Z"));
    // This occurrence is later than the others.
    let later = Task { due_time: time("2090-04-30T09:00:00Z"), ..due(&april.id, "") };
    ann.update_in(Scope::This, later).await.expect("an update");
    let in_tokyo = Task { time_zone: "Asia/Tokyo".to_owned(), ..due(&april.id, "") };
    ann.update_in(Scope::Unspecified, in_tokyo).await.expect("an update");
    let may = ann.advance(&april).await;
    assert_eq!(may.due_time, time("2090-05-31T07:00:00Z"), "16:00 in Tokyo");
    let june = ann.advance(&may).await;
    assert_eq!(june.due_time, time("2090-06-30T07:00:00Z"));
    assert_eq!(ann.complete(&june.id, "").await.expect("a completion").next_task_id, "", "it is the sixth");
}

async fn a_new_anchor_is_in_the_time_zone_of_the_series(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let time = |text: &str| Some(text.parse().expect("a time"));
    let later = Task { due_time: time("2090-01-02T10:00:00Z"), ..Task::default() };
    let rarer = Task { recurrence: Some(rule("FREQ=DAILY;INTERVAL=2")), ..Task::default() };
    for (change, next) in [(later, "2090-01-03T10:00:00Z"), (rarer, "2090-01-04T08:00:00Z")] {
        let task = ann.create(daily_in_berlin()).await.expect("the task is created");
        let abroad = Task { id: task.id.clone(), time_zone: "Asia/Tokyo".to_owned(), ..Task::default() };
        ann.update_in(Scope::This, abroad).await.expect("an update");
        ann.update_in(Scope::Following, Task { id: task.id.clone(), ..change }).await.expect("an update");
        let occurrence = ann.advance(&task).await;
        assert_eq!((occurrence.due_time, &occurrence.time_zone[..]), (time(next), "Europe/Berlin"));
    }
}

async fn skip_restores_what_was_changed_for_the_skipped_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-02", "FREQ=WEEKLY").await;
    let only_now = Task { title: "Ask Bob".to_owned(), ..due(&task.id, "2090-01-03") };
    ann.update_in(Scope::This, only_now).await.expect("an update");
    let skipped = ann.skip(&task.id).await.expect("a skip");
    assert_eq!((&skipped.title, &skipped.due_date[..]), (&task.title, "2090-01-09"));
}

async fn scope_must_fit_the_recurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-02", "FREQ=WEEKLY").await;
    let changed = Task { id: task.id.clone(), recurrence: Some(rule("FREQ=DAILY")), ..Task::default() };
    let refused = ann.update_in(Scope::This, changed).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "scope");
    // A whole object that was read contains the recurrence, too.
    let repeated = Task { title: "Water the lawn".to_owned(), ..task.clone() };
    let updated = ann.update_in(Scope::This, Task { etag: String::new(), ..repeated }).await.expect("an update");
    assert_eq!((&updated.title[..], &updated.recurrence), ("Water the lawn", &task.recurrence));
    let unknown = Task { id: task.id.clone(), ..titled("Water the lawn") };
    let unknown = UpdateTaskRequest { task: Some(unknown), scope: 9, ..UpdateTaskRequest::default() };
    let refused = ann.client.clone().update_task(unknown).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "scope");
    // A task that does not recur has no following occurrences.
    let plain = ann.make("Buy milk").await;
    let renamed = Task { id: plain.id.clone(), ..titled("Buy oats") };
    assert_eq!(ann.update_in(Scope::This, renamed).await.expect("an update").title, "Buy oats");
}
