//! Series of recurring tasks continue in another account.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    FileFormat, Recurrence, Reminder, Task, recurrence::Basis, task::Priority, update_task_request::Scope,
};

use super::{
    counts,
    formats::{before_due, reminder_times, time},
    issues, jsonl,
};
use crate::support::{Service, User, titled};

on_each_database!(
    series_continue_in_another_account,
    series_of_every_format_are_equal_after_a_round_trip,
    invalid_series_are_refused,
);

const FORMATS: [FileFormat; 3] = [FileFormat::Jsonl, FileFormat::Csv, FileFormat::Icalendar];

fn recurring(title: &str, due_date: &str, rrule: &str, basis: Basis) -> Task {
    let recurrence = Recurrence { rrule: rrule.to_owned(), basis: basis.into(), ..Recurrence::default() };
    Task { due_date: due_date.to_owned(), recurrence: Some(recurrence), ..titled(title) }
}

/// Returns what the following occurrences depend on, and what a user sees.
fn visible(task: &Task) -> impl PartialEq + std::fmt::Debug {
    let fields = (task.title.clone(), task.notes.clone(), task.priority, task.labels.clone(), task.state);
    let due = (task.due_date.clone(), task.due_time, task.time_zone.clone());
    (fields, due, task.recurrence.clone(), reminder_times(task))
}

impl User {
    async fn make_series(&self, task: Task, completions: usize) -> Task {
        let mut task = self.create(task).await.expect("a creation");
        for _ in 0..completions {
            task = self.complete_occurrence(&task.id).await.expect("it recurs");
        }
        task
    }

    /// Completes an occurrence. Returns the next one.
    async fn complete_occurrence(&self, id: &str) -> Option<Task> {
        let next = self.complete(id, "").await.expect("a completion").next_task_id;
        if next.is_empty() { None } else { Some(self.get(&next).await.expect("it exists")) }
    }

    /// Creates series that have changed in every way in which they can. Returns their open occurrences.
    async fn make_all_series(&self) -> Vec<Task> {
        let rent = recurring("Pay the rent", "2090-01-31", "FREQ=MONTHLY", Basis::Due);
        let pills = recurring("Take a pill", "2090-01-01", "FREQ=DAILY;COUNT=3", Basis::Due);
        let plants = recurring("Water the plants", "2090-01-01", "FREQ=DAILY;COUNT=3", Basis::Completion);
        let monday = recurring("Call Bob", "2090-02-06", "FREQ=WEEKLY", Basis::Due);
        let reminders = vec![Reminder { time: Some(before_due(900)), ..Reminder::default() }];
        let shop = Task { reminders, ..recurring("Shop", "2090-02-06", "FREQ=WEEKLY", Basis::Due) };
        let meet = Task {
            due_time: Some(time("2090-03-01T08:00:00Z")),
            time_zone: "Europe/Berlin".to_owned(),
            ..recurring("Meet", "", "FREQ=DAILY;BYHOUR=9,17", Basis::Due)
        };
        let mut open = vec![
            self.make_series(rent, 1).await,
            self.make_series(pills, 2).await,
            self.make_series(plants, 1).await,
            self.make_series(monday, 0).await,
            self.make_series(shop, 1).await,
            self.make_series(meet.clone(), 1).await,
            self.make_series(meet.clone(), 0).await,
            self.make_series(meet, 0).await,
        ];
        let id = |index: usize| open[index].id.clone();
        for (scope, update) in [
            (Scope::This, Task { id: id(3), due_date: "2090-02-08".to_owned(), ..Task::default() }),
            (
                Scope::This,
                Task {
                    id: id(4),
                    title: "Shop, \"twice\"".to_owned(),
                    notes: "a; b\nc".to_owned(),
                    priority: Priority::High.into(),
                    labels: vec!["x".to_owned()],
                    reminders: vec![Reminder { time: Some(before_due(60)), ..Reminder::default() }],
                    ..Task::default()
                },
            ),
            (Scope::This, Task { id: id(5), time_zone: "America/New_York".to_owned(), ..Task::default() }),
            // A rule with hours and, for once, a day without a time.
            (Scope::This, Task { id: id(6), due_date: "2090-03-05".to_owned(), ..Task::default() }),
            (Scope::Following, Task { id: id(7), time_zone: "Asia/Tokyo".to_owned(), ..Task::default() }),
        ] {
            self.update_in(scope, update).await.expect("an update");
        }
        for task in &mut open {
            *task = self.get(&task.id).await.expect("it exists");
        }
        open
    }
}

async fn series_continue_in_another_account(database: TestDatabase) {
    let service = Service::start(&database).await;
    for format in FORMATS {
        let (ann, bob) = (service.user(), service.user());
        let open = ann.make_all_series().await;
        let response = bob.import(format, &ann.export(format).await).await;
        assert_eq!((counts(&response)[2], issues(&response)), (0, vec![]), "{format:?}");
        for mut task in open {
            let imported = bob.get(&task.id).await.expect("it has the same id");
            assert_eq!((visible(&imported), &imported.occurrence_date), (visible(&task), &task.occurrence_date));
            assert_ne!(imported.series_id, task.series_id);
            let mut other = imported;
            for _ in 0..4 {
                let (next, other_next) =
                    (ann.complete_occurrence(&task.id).await, bob.complete_occurrence(&other.id).await);
                assert_eq!(next.as_ref().map(visible), other_next.as_ref().map(visible), "{format:?} {task:?}");
                let (Some(next), Some(other_next)) = (next, other_next) else { break };
                (task, other) = (next, other_next);
            }
        }
    }
}

async fn series_of_every_format_are_equal_after_a_round_trip(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let open = ann.make_all_series().await;
    let lines = ann.export(FileFormat::Jsonl).await;
    let exported: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let series = |task: &Task| {
        let line = exported.iter().find(|line| line["task"]["id"] == task.id).expect("it is exported");
        line["task"]["series"].clone()
    };
    assert_eq!(series(&open[0]), serde_json::json!({"anchor": "2090-01-31", "slot": "2090-02-28", "number": 2}));
    assert_eq!(series(&open[3]), serde_json::json!({"anchor": "2090-02-06", "slot": "2090-02-06", "number": 1}));
    let mut originals = series(&open[4])["originals"].clone();
    assert!(originals["reminders"][0]["id"].take().is_string());
    let reminder = serde_json::json!({"id": null, "beforeDue": "900s"});
    assert_eq!(
        originals,
        serde_json::json!({"title": "Shop", "notes": null, "priority": null, "labels": null, "reminders": [reminder]})
    );
    let count = i32::try_from(ann.all_tasks().await.len()).expect("few");
    for format in FORMATS {
        let (bob, file) = (service.user(), ann.export(format).await);
        for expected in [[count, 0, 0], [0, count, 0]] {
            let response = bob.import(format, &file).await;
            assert_eq!((counts(&response), response.issue_count), (expected, 0), "{format:?}");
            assert_eq!(bob.export(format).await, file, "{format:?}");
        }
    }
}

async fn invalid_series_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let valid = serde_json::json!({"anchor": "2090-01-31", "slot": "2090-02-28", "number": 2});
    let line = |series: &serde_json::Value, rrule: &str| {
        let recurrence = serde_json::json!({"rrule": rrule});
        let task = serde_json::json!({"id": "a", "title": "x", "dueDate": "2090-02-28", "recurrence": recurrence, "series": series});
        serde_json::json!({ "task": task }).to_string()
    };
    let with = |name: &str, value: serde_json::Value| {
        let mut series = valid.clone();
        series[name] = value;
        series
    };
    for (series, rrule, field) in [
        (serde_json::json!([]), "FREQ=MONTHLY", "rows[2].series"),
        (with("number", 0.into()), "FREQ=MONTHLY", "rows[2].series"),
        (with("color", "red".into()), "FREQ=MONTHLY", "rows[2].series"),
        (with("slot", "2090-02-28T09:00:00".into()), "FREQ=MONTHLY", "rows[2].series"),
        (with("originals", serde_json::json!({"title": ""})), "FREQ=MONTHLY", "rows[2].series"),
        (valid.clone(), "FREQ=MONTHLY;UNTIL=20900130", "rows[2].recurrence.rrule"),
        (valid.clone(), "FREQ=DAILY;BYHOUR=9", "rows[2].recurrence.rrule"),
    ] {
        let file = jsonl(&[line(&series, rrule)]);
        assert_eq!(ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await, [field], "{file}");
    }
    let file = jsonl(&[serde_json::json!({"task": {"id": "a", "title": "x", "series": valid}}).to_string()]);
    assert_eq!(ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await, ["rows[2].series"]);
    let file = "title,due_date,recurrence,series\nx,2090-02-28,\"{\"\"rrule\"\":\"\"FREQ=DAILY\"\"}\",1\n";
    assert_eq!(ann.assert_not_imported(FileFormat::Csv, file.as_bytes()).await, ["rows[2].series"]);
    let file = "BEGIN:VCALENDAR\nBEGIN:VTODO\nSUMMARY:x\nX-TASKEY-SERIES:{}\nEND:VTODO\nEND:VCALENDAR\n";
    assert_eq!(ann.assert_not_imported(FileFormat::Icalendar, file.as_bytes()).await, ["rows[4].X-TASKEY-SERIES"]);
    // The same row with a valid series is imported.
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &jsonl(&[line(&valid, "FREQ=MONTHLY")])).await), [1, 0, 0]);
}
