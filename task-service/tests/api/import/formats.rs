//! Files in the formats of other products. They are written by hand, as the products document their formats.

use jiff::civil::Weekday;
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    FileFormat, ImportTasksResponse, Task,
    recurrence::Basis,
    reminder::Time,
    task::{Priority, State},
};

use super::{counts, issues};
use crate::support::{Service, User};

on_each_database!(
    project_of_todoist_is_imported,
    what_is_lost_of_a_project_of_todoist_is_reported,
    backup_of_todoist_is_imported,
    takeout_of_google_is_imported,
    lists_of_microsoft_to_do_are_imported,
    due_dates_of_microsoft_to_do_are_those_of_the_user,
    time_zones_with_the_names_of_windows_are_known,
    reminders_of_apple_are_imported,
    csv_of_a_spreadsheet_is_imported,
    last_line_break_of_csv_is_optional,
    formulas_in_csv_lose_their_mark,
);

/// Imports a file twice. The second time, nothing changes.
async fn import_twice(user: &User, format: FileFormat, file: &[u8]) -> ImportTasksResponse {
    let dry = user.import_with(format, file, true).await.expect("a report");
    let first = user.import_with(format, file, false).await.expect("the file is imported");
    assert_eq!(dry, first);
    let exported = user.export(FileFormat::Jsonl).await;
    let second = user.import_with(format, file, false).await.expect("the file is imported");
    assert_eq!(counts(&second), [0, first.created_task_count, 0]);
    assert_eq!(user.export(FileFormat::Jsonl).await, exported);
    first
}

pub(super) fn time(text: &str) -> prost_types::Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("a time");
    prost_types::Timestamp { seconds: instant.as_second(), nanos: instant.subsec_nanosecond() }
}

pub(super) fn reminder_times(task: &Task) -> Vec<Time> {
    task.reminders.iter().map(|reminder| reminder.time.expect("it is set")).collect()
}

pub(super) fn before_due(seconds: i64) -> Time {
    Time::BeforeDue(prost_types::Duration { seconds, nanos: 0 })
}

/// Returns the title of the list of a task.
async fn list_title(user: &User, task: &Task) -> String {
    user.get_list(&task.list_id).await.expect("it exists").title
}

async fn project_of_todoist_is_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let response = import_twice(&ann, FileFormat::TodoistCsv, include_bytes!("../../files/todoist.csv")).await;
    assert_eq!(counts(&response), [6, 0, 0]);
    let mut found = issues(&response);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (7, "TYPE", "sections are not imported; their tasks are"),
            (8, "DURATION", "is not imported"),
            (8, "RESPONSIBLE", "is not imported"),
            (9, "DEADLINE", "is kept in the notes"),
            (11, "DATE", "is not a date or a recurring date that is known; it is kept in the notes"),
        ]
    );
    let milk = ann.titled("Buy milk").await;
    assert_eq!(
        (&milk.notes[..], milk.priority(), &milk.due_date[..]),
        ("Two bottles, please", Priority::High, "2026-12-01")
    );
    assert_eq!(milk.labels, ["shop", "urgent"]);
    let oat = ann.titled("Oat milk").await;
    assert_eq!(
        (&oat.parent_id, &oat.notes[..], oat.priority()),
        (&milk.id, "The one in the blue bottle", Priority::Unspecified)
    );
    let bank = ann.titled("Call the bank").await;
    assert_eq!((bank.due_time, &bank.time_zone[..]), (Some(time("2026-12-02T13:30:00Z")), "Europe/Berlin"));
    assert_eq!((bank.priority(), &bank.parent_id[..]), (Priority::Medium, ""));
    let plants = ann.titled("Water the plants").await;
    assert_eq!((&plants.notes[..], plants.priority()), ("Deadline: 2026-12-31", Priority::Low));
    assert!(plants.source_id.starts_with("todoist:"));
    assert_eq!(plants.recurrence_text, "every week on Monday");
    // The clock stands still.
    let today = jiff::Timestamp::from_microsecond(service.clock.now().as_micros()).expect("a time");
    let today = jiff::tz::db().get("Europe/Berlin").expect("a time zone").to_datetime(today).date();
    let due: jiff::civil::Date = plants.due_date.parse().expect("a date");
    assert_eq!(
        (due.weekday(), (0..7).contains(&today.until(due).expect("a span").get_days())),
        (Weekday::Monday, true)
    );
    let rent = ann.titled("Pay the rent").await;
    assert_eq!((rent.due_time, &rent.time_zone[..]), (Some(time("2090-12-01T08:00:00Z")), "Europe/Berlin"));
    let recurrence = rent.recurrence.expect("it recurs");
    assert_eq!((&recurrence.rrule[..], recurrence.basis()), ("FREQ=WEEKLY;INTERVAL=2", Basis::Completion));
    assert_eq!(ann.titled("Müll").await.notes, "Date: jeden Montag");
}

async fn what_is_lost_of_a_project_of_todoist_is_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = "TYPE,CONTENT,INDENT,AUTHOR,COLOR\nmeta,view_style=list,,,\ntask,Buy milk,1,Ann (1),red\n\
                note,Two bottles,,Bob (2),\nnote,Or three,,Cat (3),\nfilter,today,,,\n";
    let response = import_twice(&ann, FileFormat::TodoistCsv, file.as_bytes()).await;
    assert_eq!(
        issues(&response),
        [
            (1, "COLOR", "is not a column of Todoist that is known, and is not imported"),
            (4, "AUTHOR", "is not the same for all tasks and comments, and is not imported"),
            (6, "TYPE", "is not known; the row is not imported"),
        ]
    );
    assert_eq!(ann.titled("Buy milk").await.notes, "Two bottles\n\nOr three");
}

async fn backup_of_todoist_is_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let response =
        import_twice(&ann, FileFormat::TodoistBackup, include_bytes!("../../files/todoist_backup.zip")).await;
    assert_eq!((counts(&response), response.issue_count), ([7, 0, 2], 5));
    assert_eq!(list_title(&ann, &ann.titled("Oat milk").await).await, "Errands");
    assert_eq!(list_title(&ann, &ann.titled("Book a van").await).await, "Moving");
}

async fn takeout_of_google_is_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let response =
        import_twice(&ann, FileFormat::GoogleTakeout, include_bytes!("../../files/google_takeout.json")).await;
    assert_eq!(counts(&response), [3, 0, 2]);
    assert_eq!(
        issues(&response),
        [
            (2, "links", "is not imported"),
            // Google does not document these two.
            (2, "starred", "is not imported"),
            (2, "task_recurrence_id", "is not imported"),
            (4, "deleted", "tasks that are deleted are not imported"),
        ]
    );
    let milk = ann.titled("Buy milk").await;
    assert_eq!(
        (&milk.notes[..], &milk.due_date[..], &milk.source_id[..]),
        ("Two bottles", "2026-12-01", "google:VGFzazE")
    );
    assert_eq!(
        (milk.create_time, list_title(&ann, &milk).await),
        (Some(time("2026-11-28T07:00:00Z")), "Errands".to_owned())
    );
    assert_eq!(ann.titled("Oat milk").await.parent_id, milk.id);
    let bank = ann.titled("Call the bank").await;
    assert_eq!((bank.state(), bank.complete_time), (State::Completed, Some(time("2026-11-29T09:00:00Z"))));
    assert_eq!(bank.create_time, Some(time("2026-11-27T08:00:00Z")));
}

async fn lists_of_microsoft_to_do_are_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let response =
        import_twice(&ann, FileFormat::MicrosoftTodo, include_bytes!("../../files/microsoft_todo.json")).await;
    assert_eq!(counts(&response), [7, 0, 1]);
    let mut found = issues(&response);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (3, "dueDateTime", "is not midnight in UTC, but in the time zone of the user; 2090-12-02 is imported"),
            (4, "createdDateTime", "is not a time that is known, and is not imported"),
            (4, "linkedResources", "is not imported"),
            (4, "recurrence", "is not a pattern with a due date that is known, and is not imported"),
        ]
    );
    let bank = ann.titled("Call the bank").await;
    assert_eq!(
        (list_title(&ann, &bank).await, bank.create_time),
        ("Tasks".to_owned(), Some(time("2026-11-27T08:00:00Z")))
    );
    let milk = ann.titled("Buy milk").await;
    assert_eq!(list_title(&ann, &milk).await, "Errands");
    assert_eq!((&milk.notes[..], milk.priority(), &milk.due_date[..]), ("Two bottles", Priority::High, "2090-12-01"));
    // One of the ten occurrences is before the due date.
    assert_eq!(milk.recurrence.as_ref().expect("it recurs").rrule, "FREQ=WEEKLY;INTERVAL=2;COUNT=9;BYDAY=FR");
    assert_eq!((reminder_times(&milk), &milk.time_zone[..]), (vec![before_due(-8 * 3600)], "Europe/Berlin"));
    let landlord = ann.titled("Call the landlord").await;
    assert_eq!(reminder_times(&landlord), [Time::RemindTime(time("2090-11-30T08:00:00Z"))]);
    // Its time zone has the name that Windows gives it.
    let cat = ann.titled("Feed the cat").await;
    assert_eq!(reminder_times(&cat), [Time::RemindTime(time("2090-11-30T07:00:00Z"))]);
    assert_eq!(
        (milk.create_time, &milk.labels[..]),
        (Some(time("2026-11-28T07:00:00.123456Z")), &["Red category".to_owned()][..])
    );
    let oat = ann.titled("Oat milk").await;
    assert_eq!(
        (&oat.parent_id, oat.state(), oat.complete_time),
        (&milk.id, State::Completed, Some(time("2026-11-29T10:00:00Z")))
    );
    assert_eq!(ann.titled("Cow milk").await.state(), State::Open);
    let van = ann.titled("Book a van").await;
    assert_eq!((van.priority(), van.complete_time), (Priority::Low, Some(time("2026-11-29T00:00:00Z"))));
}

async fn due_dates_of_microsoft_to_do_are_those_of_the_user(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // 1 December in Berlin.
    let due = serde_json::json!({"dateTime": "2026-11-30T23:00:00.0000000", "timeZone": "UTC"});
    let pattern = serde_json::json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 1});
    let recurrence = serde_json::json!({"pattern": pattern, "range": {"type": "noEnd", "startDate": "2026-12-01"}});
    let once = serde_json::json!({"id": "a", "title": "once", "dueDateTime": due});
    let monthly = serde_json::json!({"id": "b", "title": "monthly", "dueDateTime": due, "recurrence": recurrence});
    let file = serde_json::json!([{"id": "l", "displayName": "Errands", "tasks": [once, monthly]}]).to_string();
    let response = import_twice(&ann, FileFormat::MicrosoftTodo, file.as_bytes()).await;
    let description = "is not midnight in UTC, but in the time zone of the user; 2026-12-01 is imported";
    assert_eq!(issues(&response), [1, 2].map(|row| (row, "dueDateTime", description)));
    let monthly = ann.titled("monthly").await;
    assert_eq!([&ann.titled("once").await.due_date, &monthly.due_date], ["2026-12-01"; 2]);
    let next = ann.complete(&monthly.id, "").await.expect("a completion").next_task_id;
    assert!(ann.get(&next).await.expect("it exists").due_date.ends_with("-01"));
}

async fn time_zones_with_the_names_of_windows_are_known(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = "BEGIN:VCALENDAR\nBEGIN:VTODO\nSUMMARY:New York\nDUE;TZID=Eastern Standard Time:20900701T120000\nEND:VTODO\n\
                BEGIN:VTODO\nSUMMARY:Mars\nDUE;TZID=Martian Standard Time:20900701T120000\nEND:VTODO\nEND:VCALENDAR\n";
    let response = import_twice(&ann, FileFormat::Icalendar, file.as_bytes()).await;
    let unknown = "is not a date or a time of a known time zone, and is not imported";
    assert_eq!((counts(&response), issues(&response)), ([2, 0, 0], vec![(8, "DUE", unknown)]));
    let task = ann.titled("New York").await;
    assert_eq!((task.due_time, &task.time_zone[..]), (Some(time("2090-07-01T16:00:00Z")), "America/New_York"));
    let task = |title: &str, zone: &str| {
        format!(
            r#"{{"id": "{title}", "title": "{title}", "dueDateTime": {{"dateTime": "2090-07-01T00:00:00", "timeZone": "{zone}"}},
            "isReminderOn": true, "reminderDateTime": {{"dateTime": "2090-07-01T09:00:00", "timeZone": "{zone}"}},
            "recurrence": {{"pattern": {{"type": "daily", "interval": 1}},
                "range": {{"type": "noEnd", "startDate": "2090-07-01"}}}}}}"#
        )
    };
    let tasks = [task("Tokyo", "Tokyo Standard Time"), task("Moon", "Lunar Standard Time")].join(",");
    let file = format!(r#"[{{"id": "l", "displayName": "Errands", "tasks": [{tasks}]}}]"#);
    let response = import_twice(&ann, FileFormat::MicrosoftTodo, file.as_bytes()).await;
    let unknown = "is not a time of a known time zone, and is not imported";
    assert_eq!((counts(&response), issues(&response)), ([2, 0, 1], vec![(2, "reminderDateTime", unknown)]));
    let task = ann.titled("Tokyo").await;
    assert_eq!((reminder_times(&task), &task.time_zone[..]), (vec![before_due(-9 * 3600)], "Asia/Tokyo"));
}

async fn reminders_of_apple_are_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let response = import_twice(&ann, FileFormat::Icalendar, include_bytes!("../../files/reminders.ics")).await;
    assert_eq!(counts(&response), [3, 0, 1]);
    let found: Vec<_> = issues(&response).into_iter().map(|(_, field, text)| (field, text)).collect();
    let occurrence = "is a changed occurrence of a recurring task, and is not imported";
    let place = ("X-APPLE-PROXIMITY", "is an alarm at a place, which is not imported");
    assert_eq!(found, [place, ("X-APPLE-STRUCTURED-LOCATION", "is not imported"), ("", occurrence)]);
    let milk = ann.titled("Buy milk, two bottles").await;
    assert_eq!(milk.notes, "From the shop at the corner\nnot the other one, which is closed on Mondays");
    assert_eq!((milk.due_time, &milk.time_zone[..]), (Some(time("2090-12-01T17:00:00Z")), "Europe/Berlin"));
    assert_eq!(reminder_times(&milk), [Time::RemindTime(time("2090-12-01T16:00:00Z"))]);
    assert_eq!((milk.priority(), milk.labels.clone()), (Priority::High, vec!["shop".to_owned(), "a, b".to_owned()]));
    assert_eq!(
        (list_title(&ann, &milk).await, milk.create_time),
        ("Errands".to_owned(), Some(time("2026-11-28T07:00:00Z")))
    );
    let oat = ann.titled("Oat milk").await;
    assert_eq!((&oat.parent_id, oat.complete_time), (&milk.id, Some(time("2026-11-29T10:15:00Z"))));
    let plants = ann.titled("Water the plants").await;
    assert_eq!((&plants.due_date[..], &plants.source_id[..]), ("2090-12-04", "icalendar:plants"));
    assert_eq!(reminder_times(&plants), [before_due(-9 * 3600)]);
    assert_eq!(plants.recurrence_text, "every week on Monday");
}

async fn csv_of_a_spreadsheet_is_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = "due_date,title,labels,list,owner,state\r\n2026-12-01,Buy milk,\"shop,\"\"a, b\"\"\",Errands,Ann,\r\n,Buy milk,,,Ann,COMPLETED\r\n\
                ,Buy milk,,,Ann,COMPLETED\r\n";
    let response = import_twice(&ann, FileFormat::Csv, file.as_bytes()).await;
    assert_eq!(counts(&response), [3, 0, 1]);
    assert_eq!(issues(&response)[0], (1, "owner", "is not a column of tasks, and is not imported"));
    let tasks = ann.list(taskey_proto::task::v1::ListTasksRequest::default()).await.expect("a page").tasks;
    let milk = tasks.iter().find(|task| !task.due_date.is_empty()).expect("it is imported");
    assert_eq!(
        (list_title(&ann, milk).await, &milk.labels[..]),
        ("Errands".to_owned(), &["shop".to_owned(), "a, b".to_owned()][..])
    );
    assert_eq!(tasks.iter().filter(|task| task.state() == State::Completed).count(), 2);
}

async fn last_line_break_of_csv_is_optional(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (format, file) in [
        (FileFormat::Csv, "title,notes\nBuy milk,\nCall Bob,\"at noon\""),
        (FileFormat::TodoistCsv, "TYPE,INDENT,CONTENT\ntask,1,Buy milk\ntask,1,Call Bob"),
    ] {
        let ann = service.user();
        let response = import_twice(&ann, format, file.as_bytes()).await;
        let issue = (3, "", "has no line break, as if the file had been cut off; is it complete?");
        assert_eq!((counts(&response), issues(&response)), ([2, 0, 0], vec![issue]));
        assert_eq!(ann.titles().await, ["Buy milk", "Call Bob"]);
        // With the line break, it is the same file.
        let complete = ann.import(format, &format!("{file}\n")).await;
        assert_eq!((counts(&complete), complete.issue_count), ([0, 2, 0], 0));
    }
}

async fn formulas_in_csv_lose_their_mark(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.import(FileFormat::Csv, "title\n'=1+1\n''quoted'\n'tis\n=2+2\n").await;
    assert_eq!(ann.titles().await, ["=1+1", "'quoted'", "'tis", "=2+2"]);
}
