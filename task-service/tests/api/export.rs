//! Exports of tasks as files.

use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    ExportTasksRequest, ExportTasksResponse, FileFormat, Recurrence, Task, move_task_request::Position, task::Priority,
};
use tonic::{Status, Streaming};

use crate::{
    calls::to,
    import::{counts, jsonl},
    support::{Service, User, titled},
};

on_each_database!(
    json_lines_contain_lists_and_tasks_with_all_fields,
    csv_has_a_record_for_each_task,
    formulas_in_csv_are_marked_as_text,
    icalendar_has_a_todo_for_each_task,
    tasks_are_exported_in_the_order_of_their_ranks,
    large_export_is_sent_in_parts,
    task_that_is_moved_during_an_export_occurs_once,
    deleted_tasks_and_those_of_others_are_not_exported,
    account_without_tasks_has_a_file_with_the_default_list,
    open_occurrence_is_exported_with_its_recurrence,
    format_that_cannot_be_exported_is_refused,
    account_exports_one_file_at_a_time,
);

impl User {
    pub(crate) async fn start_export(&self, format: FileFormat) -> Result<Streaming<ExportTasksResponse>, Status> {
        let request = ExportTasksRequest { format: format.into() };
        Ok(self.client.clone().export_tasks(request).await?.into_inner())
    }

    /// Returns the parts of an export.
    async fn export_parts(&self, format: FileFormat) -> Vec<ExportTasksResponse> {
        let mut parts = self.start_export(format).await.expect("the export starts");
        let mut received = Vec::new();
        while let Some(part) = parts.message().await.expect("the export continues") {
            received.push(part);
        }
        received
    }

    pub(crate) async fn export(&self, format: FileFormat) -> String {
        let bytes = self.export_parts(format).await.into_iter().flat_map(|part| part.content).collect();
        String::from_utf8(bytes).expect("a text")
    }

    /// Creates 3 MB of tasks, which are too much for the buffers of a connection, so that their export waits for its reader.
    /// Their titles are their numbers from 0. Returns how many there are.
    async fn make_large_tasks(&self) -> i32 {
        let notes = "😀".repeat(4000);
        let task = |n: u32| serde_json::json!({"id": n.to_string(), "title": n.to_string(), "notes": notes});
        let lines: Vec<_> = (0..200).map(|n| serde_json::json!({"task": task(n)}).to_string()).collect();
        self.import(FileFormat::Jsonl, &jsonl(&lines)).await.created_task_count
    }
}

/// Returns a task with a value in each field that clients set.
pub(crate) fn full() -> Task {
    Task {
        notes: "one\ntwo; \"three\", four".to_owned(),
        priority: Priority::High.into(),
        due_time: Some(Timestamp { seconds: 1_800_000_000, nanos: 123_456_000 }),
        time_zone: "Europe/Berlin".to_owned(),
        labels: vec!["home".to_owned(), "a, b".to_owned()],
        ..titled("Buy milk")
    }
}

/// Returns a time in JSON.
fn json_time(time: Option<Timestamp>) -> String {
    let Timestamp { seconds, nanos } = time.expect("it is set");
    jiff::Timestamp::new(seconds, nanos).expect("a valid time").to_string()
}

async fn json_lines_contain_lists_and_tasks_with_all_fields(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = ann.make_list("Errands \"now\"").await;
    let parent = ann.create(Task { list_id: list.id.clone(), ..full() }).await.expect("the task is created");
    let dated = Task { due_date: "2030-05-01".to_owned(), parent_id: parent.id.clone(), ..titled("Oats") };
    let child = ann.create(dated).await.expect("the task is created");
    let child = ann.complete(&child.id, "").await.expect("it is completed");
    let plain = ann.make("Call").await;

    let parts = ann.export_parts(FileFormat::Jsonl).await;
    assert_eq!((&parts[0].content_type[..], &parts[0].file_name[..]), ("application/x-ndjson", "tasks.jsonl"));
    let file = ann.export(FileFormat::Jsonl).await;
    let lines: Vec<serde_json::Value> = file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = [
        serde_json::json!({"format": "taskey", "version": 1}),
        serde_json::json!({"list": {"isDefault": true, "title": "Tasks"}}),
        serde_json::json!({"task": {"id": plain.id, "title": "Call", "createTime": json_time(plain.create_time)}}),
        serde_json::json!({"list": {"id": list.id, "title": "Errands \"now\""}}),
        serde_json::json!({"task": {
            "id": parent.id, "listId": list.id, "title": "Buy milk", "notes": "one\ntwo; \"three\", four",
            "priority": "PRIORITY_HIGH", "dueTime": "2027-01-15T08:00:00.123456Z", "timeZone": "Europe/Berlin",
            "labels": ["home", "a, b"], "createTime": json_time(parent.create_time),
        }}),
        serde_json::json!({"task": {
            "id": child.id, "listId": list.id, "parentId": parent.id, "title": "Oats", "state": "STATE_COMPLETED",
            "dueDate": "2030-05-01", "createTime": json_time(child.create_time),
            "completeTime": json_time(child.complete_time),
        }}),
        serde_json::json!({"end": {"tasks": 3}}),
    ];
    assert_eq!(lines, expected);
}

async fn csv_has_a_record_for_each_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(full()).await.expect("the task is created");
    let parts = ann.export_parts(FileFormat::Csv).await;
    assert_eq!(
        (&parts[0].content_type[..], &parts[0].file_name[..]),
        ("text/csv; charset=utf-8; header=present", "tasks.csv")
    );
    let (id, created) = (&task.id, json_time(task.create_time));
    let expected = format!(
        "id,list_id,parent_id,title,notes,state,priority,due_date,due_time,time_zone,labels,create_time,\
         complete_time,source_id,recurrence,reminders,series,list\r\n\
         {id},,,Buy milk,\"one\ntwo; \"\"three\"\", four\",,PRIORITY_HIGH,,2027-01-15T08:00:00.123456Z,Europe/Berlin,\
         \"home,\"\"a, b\"\"\",{created},,,,,,Tasks\r\n"
    );
    assert_eq!(ann.export(FileFormat::Csv).await, expected);
}

async fn formulas_in_csv_are_marked_as_text(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for title in ["=1+1", "@SUM(A1)", "'quoted'"] {
        ann.make(title).await;
    }
    let file = ann.export(FileFormat::Csv).await;
    let mut reader = csv::Reader::from_reader(file.as_bytes());
    let titles: Vec<_> = reader.records().map(|record| record.expect("a record")[3].to_owned()).collect();
    assert_eq!(titles, ["'=1+1", "'@SUM(A1)", "''quoted'"]);
}

async fn icalendar_has_a_todo_for_each_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(full()).await.expect("the task is created");
    let dated = Task { due_date: "2030-05-01".to_owned(), parent_id: task.id.clone(), ..titled("Oats") };
    ann.create(dated).await.expect("the task is created");
    let parts = ann.export_parts(FileFormat::Icalendar).await;
    assert_eq!((&parts[0].content_type[..], &parts[0].file_name[..]), ("text/calendar; charset=utf-8", "tasks.ics"));
    let file = ann.export(FileFormat::Icalendar).await;
    assert!(file.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:"), "{file}");
    assert!(file.ends_with("END:VTODO\r\nEND:VCALENDAR\r\n"), "{file}");
    assert_eq!(file.matches("BEGIN:VTODO\r\n").count(), 2);
    for line in [
        &format!("UID:{}", task.id)[..],
        "SUMMARY:Buy milk",
        "DESCRIPTION:one\\ntwo\\; \"three\"\\, four",
        "DUE:20270115T080000Z",
        "PRIORITY:1",
        "CATEGORIES:home,a\\, b",
        "STATUS:NEEDS-ACTION",
        "X-TASKEY-TIME-ZONE:Europe/Berlin",
        "X-TASKEY-LIST:Tasks",
        "DUE;VALUE=DATE:20300501",
        &format!("RELATED-TO:{}", task.id),
    ] {
        assert!(file.contains(&format!("\r\n{line}\r\n")), "{line} is not in {file}");
    }
}

/// Returns the titles of the exported tasks.
fn titles(file: &str) -> Vec<String> {
    let lines = file.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.filter_map(|line: serde_json::Value| Some(line["task"]["title"].as_str()?.to_owned())).collect()
}

async fn tasks_are_exported_in_the_order_of_their_ranks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for title in ["one", "two", "three"] {
        ann.make(title).await;
    }
    let last = ann.make("four").await;
    ann.move_task(to(&last.id, Position::First(true))).await.expect("a move");
    assert_eq!(titles(&ann.export(FileFormat::Jsonl).await), ["four", "one", "two", "three"]);
}

async fn large_export_is_sent_in_parts(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let expected: Vec<_> = (0..230).map(|number| format!("task {number}")).collect();
    for title in &expected {
        ann.create(Task { notes: "x".repeat(2000), ..titled(title) }).await.expect("the task is created");
    }
    let parts = ann.export_parts(FileFormat::Jsonl).await;
    assert!(parts.len() > 5 && parts.iter().all(|part| part.content.len() < 100_000));
    assert!(parts[1..].iter().all(|part| part.content_type.is_empty() && part.file_name.is_empty()));
    assert_eq!(titles(&ann.export(FileFormat::Jsonl).await), expected);
}

async fn task_that_is_moved_during_an_export_occurs_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let count = ann.make_large_tasks().await;
    let first = ann.titled("0").await;
    let mut parts = ann.start_export(FileFormat::Jsonl).await.expect("the export starts");
    let mut file = parts.message().await.expect("the export continues").expect("a part").content;
    ann.move_task(to(&first.id, Position::Last(true))).await.expect("a move");
    while let Some(part) = parts.message().await.expect("the export continues") {
        file.extend(part.content);
    }
    let imported = bob.import_with(FileFormat::Jsonl, &file, false).await.expect("each task occurs once");
    assert_eq!(counts(&imported), [count, 0, 0]);
}

async fn deleted_tasks_and_those_of_others_are_not_exported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    bob.make("Bob's").await;
    ann.make("Buy milk").await;
    let deleted = ann.make("Buy oats").await;
    ann.delete(&deleted.id, "").await.expect("a deletion");
    assert_eq!(titles(&ann.export(FileFormat::Jsonl).await), ["Buy milk"]);
}

async fn account_without_tasks_has_a_file_with_the_default_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let file = service.user().export(FileFormat::Jsonl).await;
    let lines: Vec<_> = file.lines().collect();
    let expected = [
        r#"{"format":"taskey","version":1}"#,
        r#"{"list":{"isDefault":true,"title":"Tasks"}}"#,
        r#"{"end":{"tasks":0}}"#,
    ];
    assert_eq!(lines, expected);
    assert_eq!(service.user().export(FileFormat::Csv).await.lines().count(), 1);
}

async fn open_occurrence_is_exported_with_its_recurrence(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let recurrence = Some(Recurrence { rrule: "FREQ=MONTHLY;BYDAY=2TU".to_owned(), ..Recurrence::default() });
    let task = Task { due_date: "2090-01-31".to_owned(), recurrence, ..titled("Pay the rent") };
    let task = ann.create(task).await.expect("the task is created");
    let next = ann.complete(&task.id, "").await.expect("a completion").next_task_id;
    let expected = serde_json::json!({
        "rrule": "FREQ=MONTHLY;BYDAY=2TU", "basis": "BASIS_DUE", "catchUp": "CATCH_UP_SKIP",
    });

    let lines = ann.export(FileFormat::Jsonl).await;
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let tasks: Vec<_> = lines.map(|mut line| line["task"].take()).filter(|task| !task.is_null()).collect();
    assert_eq!((&tasks[0]["id"], &tasks[0]["recurrence"]), (&next.into(), &expected));
    assert_eq!(tasks[1].get("recurrence"), None, "the next occurrence exists");

    let csv = ann.export(FileFormat::Csv).await;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let cells: Vec<_> = reader.records().map(|record| record.expect("a record")[14].to_owned()).collect();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&cells[0]).expect("JSON"), expected);
    assert_eq!(cells[1], "");

    let calendar = ann.export(FileFormat::Icalendar).await;
    let lines = "RRULE:FREQ=MONTHLY;BYDAY=2TU\r\nX-TASKEY-BASIS:BASIS_DUE\r\nX-TASKEY-CATCH-UP:CATCH_UP_SKIP\r\n";
    assert_eq!(calendar.matches(lines).count(), 1, "{calendar}");
}

async fn format_that_cannot_be_exported_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    assert_refused!(ann.start_export(FileFormat::Unspecified).await, InvalidArgument, "VALIDATION_FAILED", "format");
    let unknown = ann.client.clone().export_tasks(ExportTasksRequest { format: 4711 }).await;
    assert_refused!(unknown, InvalidArgument, "VALIDATION_FAILED", "format");
}

async fn account_exports_one_file_at_a_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    ann.make_large_tasks().await;
    let mut first = ann.start_export(FileFormat::Jsonl).await.expect("the export starts");
    first.message().await.expect("the export continues").expect("a part");
    assert_refused!(ann.start_export(FileFormat::Jsonl).await, ResourceExhausted, "OVERLOADED");
    bob.start_export(FileFormat::Jsonl).await.expect("others are not affected");
    while first.message().await.expect("the export continues").is_some() {}
    ann.start_export(FileFormat::Jsonl).await.expect("the first export has ended");
}
