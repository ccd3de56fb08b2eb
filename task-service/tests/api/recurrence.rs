//! `PreviewOccurrences`.

use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{PreviewOccurrencesRequest, PreviewOccurrencesResponse};
use tonic::Status;

use crate::support::{Service, User};

on_each_database!(
    preview_returns_the_first_dates_and_the_rule_in_english,
    preview_returns_times_that_follow_the_clock_of_the_zone,
    preview_of_a_rule_that_ends_is_complete,
    page_size_is_10_by_default_and_at_most_100,
    invalid_rules_are_refused_with_the_column,
    rule_without_an_occurrence_is_refused,
    rule_that_ends_before_the_start_is_refused_with_the_reason,
    start_at_the_end_of_the_calendar_is_refused,
    start_must_be_either_a_date_or_a_time,
);

fn from_date(rrule: &str, start_date: &str) -> PreviewOccurrencesRequest {
    let (rrule, start_date) = (rrule.to_owned(), start_date.to_owned());
    PreviewOccurrencesRequest { rrule, start_date, ..PreviewOccurrencesRequest::default() }
}

fn from_time(rrule: &str, start: &str, time_zone: &str) -> PreviewOccurrencesRequest {
    PreviewOccurrencesRequest {
        rrule: rrule.to_owned(),
        start_time: Some(start.parse().expect(start)),
        time_zone: time_zone.to_owned(),
        ..PreviewOccurrencesRequest::default()
    }
}

async fn preview(user: &User, request: PreviewOccurrencesRequest) -> Result<PreviewOccurrencesResponse, Status> {
    Ok(user.client.clone().preview_occurrences(request).await?.into_inner())
}

async fn preview_returns_the_first_dates_and_the_rule_in_english(database: TestDatabase) {
    let service = Service::start(&database).await;
    let request = PreviewOccurrencesRequest { page_size: 3, ..from_date("FREQ=MONTHLY", "2026-01-31") };
    let response = preview(&service.user(), request).await.expect("the rule is valid");
    assert_eq!(response.dates, ["2026-01-31", "2026-02-28", "2026-03-31"]);
    assert_eq!(response.recurrence_text, "every month on the 31st (or the last day of a shorter month)");
    assert_eq!(response.times, []);
}

async fn preview_returns_times_that_follow_the_clock_of_the_zone(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let daily = from_time("FREQ=DAILY;COUNT=3", "2026-03-28T01:30:00.5Z", "Europe/Berlin");
    let response = preview(&ann, daily).await.expect("the rule is valid");
    let times: Vec<_> = response.times.iter().map(Timestamp::to_string).collect();
    assert_eq!(times, ["2026-03-28T01:30:00.500Z", "2026-03-29T01:30:00.500Z", "2026-03-30T00:30:00.500Z"]);
    assert_eq!(response.dates, [""; 0]);
    let utc = from_time("FREQ=DAILY;COUNT=2;BYHOUR=7", "2026-03-28T08:00:00Z", "");
    let response = preview(&ann, utc).await.expect("the rule is valid");
    let times: Vec<_> = response.times.iter().map(Timestamp::to_string).collect();
    assert_eq!(times, ["2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"]);
}

async fn preview_of_a_rule_that_ends_is_complete(database: TestDatabase) {
    let service = Service::start(&database).await;
    let rule = from_date("FREQ=WEEKLY;BYDAY=TU;UNTIL=20261215", "2026-11-30");
    let response = preview(&service.user(), rule).await.expect("the rule is valid");
    assert_eq!(response.dates, ["2026-12-01", "2026-12-08", "2026-12-15"]);
    assert_eq!(response.recurrence_text, "every week on Tuesday, until December 15, 2026");
}

async fn page_size_is_10_by_default_and_at_most_100(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (page_size, count) in [(0, 10), (1, 1), (100, 100), (i32::MAX, 100)] {
        let request = PreviewOccurrencesRequest { page_size, ..from_date("FREQ=DAILY", "2026-11-30") };
        assert_eq!(preview(&ann, request).await.expect("the rule is valid").dates.len(), count);
    }
    let negative = PreviewOccurrencesRequest { page_size: -1, ..from_date("FREQ=DAILY", "2026-11-30") };
    assert_refused!(preview(&ann, negative).await, InvalidArgument, "VALIDATION_FAILED", "page_size");
}

async fn invalid_rules_are_refused_with_the_column(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let long = format!("FREQ=WEEKLY;BYDAY={}", "MO,".repeat(1400));
    for rule in ["", "FREQ=SECONDLY", "FREQ=DAILY;COUNT=1000000000", "FREQ=DAILY;BYHOUR=9", &long] {
        let refused = preview(&ann, from_date(rule, "2026-11-30")).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "rrule");
    }
    let refused = preview(&ann, from_date("FREQ=HOURLY", "2026-11-30")).await.expect_err("the frequency is too fine");
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(details.contains("column 6: FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY"), "{details}");
}

async fn rule_without_an_occurrence_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let never = from_date("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;SKIP=OMIT", "2026-11-30");
    // It ends after the start, but Tuesday is later.
    let none_until = from_date("FREQ=WEEKLY;BYDAY=TU;UNTIL=20261130", "2026-11-30");
    for request in [never, none_until] {
        let refused = preview(&ann, request).await.expect_err("there is no occurrence");
        assert!(refused.message().contains("days and times that are examined"), "{refused:?}");
        assert_refused!(Err::<(), _>(refused), InvalidArgument, "VALIDATION_FAILED", "rrule");
    }
}

async fn rule_that_ends_before_the_start_is_refused_with_the_reason(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for request in [
        from_date("FREQ=DAILY;UNTIL=20261129", "2026-11-30"),
        from_date("FREQ=DAILY;UNTIL=20261129T235959Z", "2026-11-30"),
        from_time("FREQ=DAILY;UNTIL=20261129", "2026-11-30T09:00:00Z", ""),
        from_time("FREQ=DAILY;UNTIL=20261130T085959Z", "2026-11-30T09:00:00Z", "Europe/Berlin"),
        from_time("FREQ=DAILY;UNTIL=20261130T095959", "2026-11-30T09:00:00Z", "Europe/Berlin"),
    ] {
        let refused = preview(&ann, request).await.expect_err("the rule ends before the start");
        assert!(refused.message().contains("must not have an UNTIL before the start"), "{refused:?}");
        assert_refused!(Err::<(), _>(refused), InvalidArgument, "VALIDATION_FAILED", "rrule");
    }
    for last in ["20261130T090000Z", "20261130T100000", "20261130"] {
        let request = from_time(&format!("FREQ=DAILY;UNTIL={last}"), "2026-11-30T09:00:00Z", "Europe/Berlin");
        assert_eq!(preview(&ann, request).await.expect("it ends with the start").times.len(), 1);
    }
}

async fn start_at_the_end_of_the_calendar_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let refused = preview(&ann, from_time("FREQ=DAILY", "9999-12-31T23:59:59Z", "")).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "start_time");
    let last = from_time("FREQ=DAILY", "9999-12-30T22:00:00Z", "");
    assert_eq!(preview(&ann, last).await.expect("the rule is valid").times.len(), 1);
}

async fn start_must_be_either_a_date_or_a_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let neither = preview(&ann, from_date("FREQ=DAILY", "")).await;
    assert_refused!(neither, InvalidArgument, "VALIDATION_FAILED", "start_date");
    let start_date = "2026-11-30".to_owned();
    let both = PreviewOccurrencesRequest { start_date, ..from_time("FREQ=DAILY", "2026-11-30T09:00:00Z", "") };
    assert_refused!(preview(&ann, both).await, InvalidArgument, "VALIDATION_FAILED", "start_date");
    let invalid = preview(&ann, from_date("FREQ=DAILY", "2026-02-30")).await;
    assert_refused!(invalid, InvalidArgument, "VALIDATION_FAILED", "start_date");
    let zone = preview(&ann, from_time("FREQ=DAILY", "2026-11-30T09:00:00Z", "Berlin")).await;
    assert_refused!(zone, InvalidArgument, "VALIDATION_FAILED", "time_zone");
}
