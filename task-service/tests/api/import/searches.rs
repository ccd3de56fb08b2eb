//! The searches for occurrences of all rows of a file have a common budget.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::FileFormat;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{counts, issues, jsonl};
use crate::support::Service;

on_each_database!(
    rules_that_require_too_many_days_together_are_refused,
    patterns_that_require_too_many_days_together_are_refused,
    many_common_rules_are_imported,
    reading_stops_after_too_many_errors,
);

/// A Monday that is February 29 occurs only after thousands of days.
const RARE: &str = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO;SKIP=OMIT";

const TOO_MANY: &str = "must not require so many days to be examined, together with the other rules of the call";

/// Returns the invalid fields and the descriptions of a refused import.
fn errors(refused: &Status) -> Vec<(String, String)> {
    let reason = refused.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    assert_eq!((refused.code(), &reason[..]), (Code::InvalidArgument, "IMPORT_INVALID"), "{refused:?}");
    let violations = refused.get_details_bad_request().expect("there are details").field_violations;
    violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

/// Returns a file with some tasks that recur by a rule.
fn file(format: FileFormat, rrule: &str, count: usize) -> String {
    let rows = 0..count;
    match format {
        FileFormat::Jsonl => {
            let fields = |id: usize| {
                let recurrence = serde_json::json!({ "rrule": rrule });
                serde_json::json!({"id": id.to_string(), "title": "x", "dueDate": "2090-12-01", "recurrence": recurrence})
            };
            jsonl(&rows.map(|id| serde_json::json!({"task": fields(id)}).to_string()).collect::<Vec<_>>())
        }
        FileFormat::Csv => {
            let row = format!("x,2090-12-01,\"{{\"\"rrule\"\":\"\"{rrule}\"\"}}\"\n");
            format!("title,due_date,recurrence\n{}", row.repeat(count))
        }
        _ => {
            let task = format!("BEGIN:VTODO\nSUMMARY:x\nDUE;VALUE=DATE:20901201\nRRULE:{rrule}\nEND:VTODO\n");
            format!("BEGIN:VCALENDAR\n{}END:VCALENDAR\n", task.repeat(count))
        }
    }
}

async fn rules_that_require_too_many_days_together_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    for format in [FileFormat::Jsonl, FileFormat::Csv, FileFormat::Icalendar] {
        let ann = service.user();
        for validate_only in [true, false] {
            let refused = ann.import_with(format, file(format, RARE, 300).as_bytes(), validate_only).await;
            let errors = errors(&refused.expect_err("it is refused"));
            assert!(errors.iter().all(|(_, text)| text == TOO_MANY), "{format:?} {errors:?}");
            assert!(errors[0].0.to_lowercase().ends_with("rrule"), "{errors:?}");
        }
        assert!(ann.titles().await.is_empty());
        assert_eq!(counts(&ann.import(format, &file(format, RARE, 5)).await), [5, 0, 0]);
    }
}

async fn patterns_that_require_too_many_days_together_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let days = serde_json::json!(["monday"]);
    let pattern = serde_json::json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": days, "index": "first"});
    let range = serde_json::json!({"type": "numbered", "startDate": "2010-01-01", "numberOfOccurrences": 1000});
    let due = serde_json::json!({"dateTime": "2090-01-02T00:00:00", "timeZone": "UTC"});
    let recurrence = serde_json::json!({"pattern": pattern, "range": range});
    let task =
        |id: u32| serde_json::json!({"id": id.to_string(), "title": "x", "dueDateTime": due, "recurrence": recurrence});
    let lists = |count: u32| {
        let tasks: Vec<_> = (0..count).map(task).collect();
        serde_json::json!([{"id": "l", "displayName": "Errands", "tasks": tasks}]).to_string()
    };
    let refused = ann.import_with(FileFormat::MicrosoftTodo, lists(20).as_bytes(), false).await;
    let errors = errors(&refused.expect_err("it is refused"));
    assert!(errors.iter().all(|(field, text)| field.ends_with("].recurrence") && text == TOO_MANY), "{errors:?}");
    assert!(ann.titles().await.is_empty());
    // 80 years of months are before the due date.
    let response = ann.import(FileFormat::MicrosoftTodo, &lists(2)).await;
    assert_eq!((counts(&response), issues(&response)), ([2, 0, 1], vec![]));
    assert!(ann.titled("x").await.recurrence.expect("it recurs").rrule.contains("COUNT=40"));
}

async fn many_common_rules_are_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let many = file(FileFormat::Icalendar, "FREQ=MONTHLY;BYDAY=1MO", 2000);
    let response = ann.import_with(FileFormat::Icalendar, many.as_bytes(), true).await.expect("a report");
    assert_eq!((counts(&response), response.issue_count), ([2000, 0, 0], 0));
}

async fn reading_stops_after_too_many_errors(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let invalid = format!("title,due_date\n{}\n", "x,soon\n".repeat(30_000));
    let refused = ann.import_with(FileFormat::Csv, invalid.as_bytes(), false).await.expect_err("it is refused");
    let message = "the file has at least 100 errors; the rest of it was not read";
    assert_eq!((refused.message(), errors(&refused).len()), (message, 25));
}
