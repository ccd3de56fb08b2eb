//! What sets, skips and stops a recurrence, and what is refused.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    ListTaskHistoryRequest, Recurrence, SkipOccurrenceRequest, StopRecurrenceRequest, Task,
    recurrence::{Basis, CatchUp},
    task::State,
    update_task_request::Scope,
};
use tonic_types::StatusExt;

use super::{recurring, rule, stored};
use crate::{
    calls::delete,
    support::{Service, User, titled},
};

on_each_database!(
    invalid_recurrences_are_refused,
    recurrence_requires_a_due_date,
    recurrence_at_the_end_of_the_calendar_is_refused,
    update_sets_changes_and_clears_the_recurrence,
    recurrence_cannot_be_cleared_after_the_next_occurrence_was_created,
    update_can_set_single_fields_of_the_recurrence,
    update_that_repeats_the_recurrence_changes_nothing,
    basis_and_catch_up_do_not_change_the_anchor,
    skipped_occurrence_becomes_the_next_one,
    stopped_recurrence_has_no_next_occurrence,
    tasks_without_an_occurrence_to_skip_are_refused,
    skip_and_stop_support_etags_and_request_ids,
    deleted_occurrence_has_no_next_one,
    history_names_the_fields_of_the_series,
);

async fn invalid_recurrences_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let long = format!("FREQ=WEEKLY;BYDAY={}MO", "MO,".repeat(1365));
    let days: Vec<_> = (100..=216).map(|day: u32| day.to_string()).collect();
    let long_in_canonical_form = format!("FREQ=YEARLY;SKIP=OMIT;BYYEARDAY={}", days.join(","));
    let daily = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    for rrule in [
        "",
        "FREQ=SECONDLY",
        "FREQ=DAILY;COUNT=1000000000",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=400",
        "FREQ=DAILY;UNTIL=20900130",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;SKIP=OMIT",
        "FREQ=DAILY;BYHOUR=9",
        &long,
        &long_in_canonical_form,
    ] {
        let created = ann.create(recurring("2090-01-31", rrule)).await;
        assert_refused!(created, InvalidArgument, "VALIDATION_FAILED", "task.recurrence.rrule");
        let task = Task { id: daily.id.clone(), recurrence: Some(rule(rrule)), ..Task::default() };
        let updated = ann.update(task, &["recurrence"]).await;
        assert_refused!(updated, InvalidArgument, "VALIDATION_FAILED", "task.recurrence.rrule");
    }
    let unknown = Recurrence { basis: 9, catch_up: -1, ..rule("FREQ=DAILY") };
    let created = ann.create(Task { recurrence: Some(unknown), ..recurring("2090-01-31", "") }).await;
    let fields = ["task.recurrence.basis", "task.recurrence.catch_up"];
    assert_refused!(created, InvalidArgument, "VALIDATION_FAILED", fields[0], fields[1]);
    assert_eq!(ann.get(&daily.id).await.expect("it exists"), daily);
    let hourly = ann.create(recurring("2090-01-31", "FREQ=HOURLY")).await.expect_err("the frequency is too fine");
    let text = String::from_utf8_lossy(hourly.details()).into_owned();
    assert!(text.contains("column 6: FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY"), "{text}");
}

async fn recurrence_requires_a_due_date(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let created = ann.create(recurring("", "FREQ=DAILY")).await;
    assert_refused!(created, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    let plain = ann.make("Buy milk").await;
    let task = Task { id: plain.id.clone(), recurrence: Some(rule("FREQ=DAILY")), ..Task::default() };
    let updated = ann.update(task, &["recurrence"]).await;
    assert_refused!(updated, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    let daily = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let task = Task { id: daily.id.clone(), ..Task::default() };
    let updated = ann.update(task.clone(), &["due_date"]).await;
    assert_refused!(updated, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    let cleared = ann.update(task, &["due_date", "recurrence"]).await.expect("both are cleared");
    assert_eq!((&cleared.due_date[..], cleared.recurrence), ("", None));
}

async fn recurrence_at_the_end_of_the_calendar_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let due_time = Some("9999-12-31T23:59:59Z".parse().expect("a time"));
    let daily = Task { due_time, ..recurring("", "FREQ=DAILY") };
    let plain = Task { recurrence: None, ..daily.clone() };
    let plain = ann.create(plain).await.expect("the task is created");
    let updated = ann.update(Task { id: plain.id, ..daily.clone() }, &["recurrence"]).await;
    for outcome in [ann.create(daily).await, updated] {
        let refused = outcome.expect_err("the due time is too late");
        assert!(refused.message().contains("requires a due time before 9999-12-30T22:00:01Z"), "{refused:?}");
        assert_refused!(Err::<Task, _>(refused), InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    }
    let due_time = Some("9999-12-30T22:00:00Z".parse().expect("a time"));
    let last = Task { due_time, ..recurring("", "FREQ=DAILY") };
    assert_eq!(ann.create(last).await.expect("the task is created").occurrence_date, "9999-12-30");
}

async fn update_sets_changes_and_clears_the_recurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let plain = Task { due_date: "2090-01-31".to_owned(), ..titled("Buy milk") };
    let plain = ann.create(plain).await.expect("the task is created");
    let with = |recurrence| Task { id: plain.id.clone(), recurrence, ..Task::default() };
    let each = stored("FREQ=MONTHLY;BYDAY=2TU", Basis::Due, CatchUp::Each);
    let sent = Recurrence { rrule: "rrule:freq=monthly;byday=+2tu".to_owned(), ..each.clone() };
    let set = ann.update(with(Some(sent)), &[]).await.expect("an update");
    assert_eq!((&set.recurrence, &set.recurrence_text[..]), (&Some(each), "every month on the 2nd Tuesday"));
    assert_eq!(set.occurrence_date, "2090-01-31");
    let next = ann.advance(&set).await;
    assert_eq!(next.due_date, "2090-02-14");

    let weekly = Task { id: next.id.clone(), ..with(Some(rule("FREQ=WEEKLY"))) };
    let changed = ann.update(weekly, &["recurrence"]).await.expect("an update");
    assert_eq!((&changed.series_id, &changed.recurrence_text[..]), (&set.series_id, "every week on Tuesday"));
    let next = ann.advance(&changed).await;
    assert_eq!(next.due_date, "2090-02-21");
    let late = ann.update(with(Some(rule("FREQ=DAILY"))), &["recurrence"]).await;
    assert_refused!(late, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");

    let cleared =
        ann.update(Task { id: next.id.clone(), ..Task::default() }, &["recurrence"]).await.expect("an update");
    assert_eq!((cleared.recurrence, &cleared.series_id[..], &cleared.occurrence_date[..]), (None, "", ""));
    assert_eq!(ann.complete(&next.id, "").await.expect("a completion").next_task_id, "");
}

async fn recurrence_cannot_be_cleared_after_the_next_occurrence_was_created(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let next = ann.advance(&task).await;
    let cleared = ann.update(Task { id: task.id.clone(), ..Task::default() }, &["recurrence"]).await;
    assert_refused!(cleared, InvalidArgument, "VALIDATION_FAILED", "task.recurrence");
    // Otherwise, the reopened occurrence could begin another series.
    ann.reopen(&task.id, "").await.expect("a reopening");
    let again = ann.complete(&task.id, "").await.expect("a completion");
    assert_eq!((again.next_task_id, again.series_id), (next.id, task.series_id));
}

async fn update_can_set_single_fields_of_the_recurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await;
    let sent = stored("FREQ=WEEKLY", Basis::Completion, CatchUp::Each);
    let with = |id: &str| Task { id: id.to_owned(), recurrence: Some(sent.clone()), ..Task::default() };
    let updated = ann.update(with(&task.id), &["recurrence.catch_up"]).await.expect("an update");
    assert_eq!(updated.recurrence, Some(stored("FREQ=MONTHLY", Basis::Due, CatchUp::Each)));
    let updated = ann.update(with(&task.id), &["recurrence.rrule", "recurrence.basis"]).await.expect("an update");
    assert_eq!((updated.recurrence, updated.series_id), (Some(sent.clone()), task.series_id));

    let dated = Task { due_date: "2090-01-31".to_owned(), ..titled("Buy milk") };
    let dated = ann.create(dated).await.expect("the task is created");
    let refused = ann.update(with(&dated.id), &["recurrence.basis"]).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "task.recurrence.rrule");
    let set = ann.update(with(&dated.id), &["recurrence.rrule"]).await.expect("an update");
    assert_eq!(set.recurrence, Some(stored("FREQ=WEEKLY", Basis::Due, CatchUp::Skip)));
    let cleared = ann.update(Task { id: dated.id, ..Task::default() }, &["recurrence.rrule"]).await;
    assert_refused!(cleared, InvalidArgument, "VALIDATION_FAILED", "task.recurrence.rrule");
}

async fn update_that_repeats_the_recurrence_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await;
    let february = ann.advance(&task).await;
    // With February 28 as the anchor, March 28 would follow.
    let repeated = ann.update(Task { etag: String::new(), ..february.clone() }, &["*"]).await.expect("an update");
    assert_eq!(repeated.series_id, february.series_id);
    assert_eq!(ann.advance(&repeated).await.due_date, "2090-03-31");
    // A completed occurrence can be updated too.
    let completed = ann.get(&task.id).await.expect("it exists");
    let renamed = Task { title: "Renamed".to_owned(), ..completed.clone() };
    let renamed = ann.update(renamed, &["*"]).await.expect("an update");
    assert_eq!((&renamed.title[..], renamed.next_task_id), ("Renamed", completed.next_task_id));
}

async fn basis_and_catch_up_do_not_change_the_anchor(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (mask, changes) in [
        ("recurrence.catch_up", &[stored("", Basis::Due, CatchUp::Each)][..]),
        ("recurrence.basis", &[stored("", Basis::Completion, CatchUp::Skip), stored("", Basis::Due, CatchUp::Skip)]),
    ] {
        let task = ann.make_recurring("2090-01-31", "FREQ=MONTHLY;COUNT=3").await;
        let february = ann.advance(&task).await;
        for recurrence in changes {
            let changed = Task { id: february.id.clone(), recurrence: Some(recurrence.clone()), ..Task::default() };
            let updated = ann.update(changed, &[mask]).await.expect("an update");
            let expected = Recurrence { rrule: "FREQ=MONTHLY;COUNT=3".to_owned(), ..recurrence.clone() };
            assert_eq!(
                (updated.recurrence, updated.occurrence_date),
                (Some(expected), february.occurrence_date.clone())
            );
        }
        let march = ann.advance(&february).await;
        assert_eq!(march.due_date, "2090-03-31", "{mask}");
        assert_eq!(ann.complete(&march.id, "").await.expect("a completion").next_task_id, "", "it is the third");
    }
    // With a new rule, the anchor is the current due date.
    let february = ann.advance(&ann.make_recurring("2090-01-31", "FREQ=MONTHLY").await).await;
    let changed =
        Task { id: february.id.clone(), recurrence: Some(rule("FREQ=MONTHLY;INTERVAL=2")), ..Task::default() };
    ann.update(changed, &["recurrence"]).await.expect("an update");
    assert_eq!(ann.advance(&february).await.due_date, "2090-04-28");
}

async fn skipped_occurrence_becomes_the_next_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=MONTHLY;COUNT=4").await;
    let skipped = ann.skip(&task.id).await.expect("a skip");
    assert_eq!((&skipped.id, skipped.state(), &skipped.due_date[..]), (&task.id, State::Open, "2090-02-28"));
    assert_eq!((&skipped.series_id, &skipped.occurrence_date[..]), (&task.series_id, "2090-02-28"));
    let next = ann.advance(&skipped).await;
    assert_eq!(next.due_date, "2090-03-31");
    assert_eq!(ann.skip(&next.id).await.expect("a skip").due_date, "2090-04-30");
    assert_refused!(ann.skip(&next.id).await, FailedPrecondition, "TASK_NOT_RECURRING");
    assert_eq!(ann.list_all(0, true).await.len(), 2);

    let after = Recurrence { basis: Basis::Completion.into(), ..rule("FREQ=DAILY;INTERVAL=3") };
    let task = Task { recurrence: Some(after), ..recurring("2090-01-31", "") };
    let task = ann.create(task).await.expect("the task is created");
    assert_eq!(ann.skip(&task.id).await.expect("a skip").due_date, "2090-02-03");
}

async fn stopped_recurrence_has_no_next_occurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let next = ann.advance(&task).await;
    let refused = ann.stop(&task.id).await.expect_err("the next occurrence recurs further");
    let metadata = refused.get_details_error_info().expect("there are details").metadata;
    assert_eq!(metadata.get("next_task_id"), Some(&next.id));
    assert_refused!(Err::<Task, _>(refused), FailedPrecondition, "TASK_NOT_RECURRING");
    let stopped = ann.stop(&next.id).await.expect("a stop");
    let expected = Task {
        recurrence: None,
        recurrence_text: String::new(),
        series_id: String::new(),
        occurrence_date: String::new(),
        etag: stopped.etag.clone(),
        update_time: stopped.update_time,
        ..next.clone()
    };
    assert_eq!(stopped, expected);
    assert_eq!(ann.stop(&next.id).await.expect("nothing to stop"), stopped);
    assert_eq!(ann.complete(&next.id, "").await.expect("a completion").next_task_id, "");
    assert_eq!(ann.list_all(0, true).await.len(), 2);
}

async fn tasks_without_an_occurrence_to_skip_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let missing = ann.new_id();
    assert_refused!(ann.skip(&missing).await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.stop(&missing).await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.skip("1").await, InvalidArgument, "VALIDATION_FAILED", "id");
    let plain = ann.make("Buy milk").await;
    assert_refused!(ann.skip(&plain.id).await, FailedPrecondition, "TASK_NOT_RECURRING");
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    ann.complete(&task.id, "").await.expect("a completion");
    assert_refused!(ann.skip(&task.id).await, FailedPrecondition, "TASK_NOT_RECURRING");
    ann.reopen(&task.id, "").await.expect("a reopening");
    assert_refused!(ann.skip(&task.id).await, FailedPrecondition, "TASK_NOT_RECURRING");
    let stranger = service.user();
    assert_refused!(stranger.skip(&task.id).await, NotFound, "TASK_NOT_FOUND");
}

async fn skip_and_stop_support_etags_and_request_ids(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    let (id, etag, request_id) = (task.id.clone(), task.etag.clone(), ann.new_id());
    let request = SkipOccurrenceRequest { id, etag, request_id, validate_only: false };
    let dry_run = SkipOccurrenceRequest { validate_only: true, ..request.clone() };
    for request in [dry_run, request.clone(), request.clone()] {
        let skipped = ann.client.clone().skip_occurrence(request).await.expect("a skip").into_inner();
        assert_eq!(skipped.due_date, "2090-02-01");
    }
    let stale = SkipOccurrenceRequest { request_id: String::new(), ..request.clone() };
    assert_refused!(ann.client.clone().skip_occurrence(stale).await, Aborted, "ETAG_MISMATCH");
    let stop = StopRecurrenceRequest { id: request.id, etag: request.etag, ..StopRecurrenceRequest::default() };
    let stopped = ann.client.clone().stop_recurrence(stop).await;
    assert_refused!(stopped, Aborted, "ETAG_MISMATCH");
}

async fn deleted_occurrence_has_no_next_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    ann.batch([delete(&task.id)]).await.expect("a deletion");
    assert_refused!(ann.complete(&task.id, "").await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.skip(&task.id).await, NotFound, "TASK_NOT_FOUND");
    assert_eq!(ann.list_all(0, true).await.len(), 1);
    ann.undelete(&task.id, "").await.expect("an undeletion");
    assert_eq!(ann.advance(&task).await.due_date, "2090-02-01");
}

/// Returns the fields, old values and new values of the newest change.
async fn newest_changes(user: &User, id: &str, count: usize) -> Vec<[String; 3]> {
    let request = ListTaskHistoryRequest { id: id.to_owned(), ..ListTaskHistoryRequest::default() };
    let entries = user.client.clone().list_task_history(request).await.expect("a page").into_inner().entries;
    let mut changes: Vec<_> =
        entries.into_iter().take(count).map(|entry| [entry.field, entry.old_value, entry.new_value]).collect();
    changes.sort();
    changes
}

async fn history_names_the_fields_of_the_series(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make_recurring("2090-01-31", "FREQ=DAILY").await;
    ann.skip(&task.id).await.expect("a skip");
    let skipped = [["due_date", "2090-01-31", "2090-02-01"], ["occurrence_date", "2090-01-31", "2090-02-01"]];
    assert_eq!(newest_changes(&ann, &task.id, 2).await, skipped);
    let weekly = Task { id: task.id.clone(), recurrence: Some(rule("FREQ=WEEKLY")), ..Task::default() };
    ann.update_in(Scope::Following, weekly).await.expect("an update");
    let json = |rrule: &str| format!(r#"{{"rrule":"{rrule}","basis":"BASIS_DUE","catchUp":"CATCH_UP_SKIP"}}"#);
    let changed = [["recurrence".to_owned(), json("FREQ=DAILY"), json("FREQ=WEEKLY")]];
    assert_eq!(newest_changes(&ann, &task.id, 1).await, changed);
    let completed = ann.complete(&task.id, "").await.expect("a completion");
    let fields: Vec<_> = newest_changes(&ann, &task.id, 3).await.into_iter().map(|[field, ..]| field).collect();
    assert_eq!(fields, ["complete_time", "next_task_id", "rank"]);
    let next = newest_changes(&ann, &completed.next_task_id, 9).await;
    assert_eq!(next, [["", "", ""]]);
}
