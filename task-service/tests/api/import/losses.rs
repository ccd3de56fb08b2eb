//! What is not imported, or not as it is, is reported.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, task::State};

use super::{bad_files::stored, counts, issues, jsonl};
use crate::support::{Service, User};

on_each_database!(
    pages_that_follow_are_reported,
    values_of_microsoft_to_do_that_are_lost_are_reported,
    values_of_google_takeout_that_are_lost_are_reported,
    columns_of_csv_that_occur_twice_are_refused,
    labels_in_several_lines_are_imported,
    rows_that_were_added_to_an_exported_csv_are_in_the_list_with_the_title,
    ambiguous_json_lines_are_refused,
    properties_of_icalendar_that_are_lost_are_reported,
    rows_and_files_of_todoist_that_are_lost_are_reported,
    rows_with_the_id_of_another_task_are_reported,
);

/// Imports a file. Returns its issues in the order of their rows.
async fn sorted_issues(user: &User, format: FileFormat, file: &str) -> Vec<(i32, String, String)> {
    let response = user.import(format, file).await;
    let mut found: Vec<_> =
        issues(&response).into_iter().map(|(row, field, text)| (row, field.to_owned(), text.to_owned())).collect();
    found.sort_unstable();
    found
}

fn owned(issues: &[(i32, &str, &str)]) -> Vec<(i32, String, String)> {
    issues.iter().map(|(row, field, text)| (*row, (*field).to_owned(), (*text).to_owned())).collect()
}

async fn pages_that_follow_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let next = "names a page that follows; the file is incomplete without it";
    let microsoft = serde_json::json!({
        "@odata.nextLink": "https://graph.microsoft.com/1",
        "value": [{
            "id": "l", "displayName": "Errands", "tasks@odata.nextLink": "https://graph.microsoft.com/2",
            "tasks": [{"id": "a", "title": "one", "checklistItems@odata.nextLink": "https://graph.microsoft.com/3"}],
        }],
    });
    assert_eq!(
        sorted_issues(&ann, FileFormat::MicrosoftTodo, &microsoft.to_string()).await,
        owned(&[
            (0, "@odata.nextLink", next),
            (0, "tasks@odata.nextLink", next),
            (1, "checklistItems@odata.nextLink", next),
        ])
    );
    let items = serde_json::json!([{"id": "g", "title": "two"}]);
    let google = serde_json::json!({"items": [{"id": "m", "title": "Work", "nextPageToken": "x", "items": items}]});
    let found = sorted_issues(&ann, FileFormat::GoogleTakeout, &google.to_string()).await;
    assert_eq!(found, owned(&[(0, "nextPageToken", next)]));
}

async fn values_of_microsoft_to_do_that_are_lost_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let item = serde_json::json!({"id": "i", "displayName": "step", "createdDateTime": "soon", "checkedDateTime": 5});
    let tasks = serde_json::json!([{
        "id": "a", "title": "one", "hasAttachments": true, "importance": 1, "status": "paused", "categories": ["x", 5],
        "body": {"content": ["text"]}, "checklistItems": [item],
    }]);
    let file = serde_json::json!([{"id": "l", "displayName": "Errands", "tasks": tasks}]);
    let (text, time) = ("is not a text, and is not imported", "is not a time that is known, and is not imported");
    assert_eq!(
        sorted_issues(&ann, FileFormat::MicrosoftTodo, &file.to_string()).await,
        owned(&[
            (1, "body", text),
            (1, "categories", text),
            (1, "checkedDateTime", time),
            (1, "createdDateTime", time),
            (1, "hasAttachments", "is not imported"),
            (1, "importance", text),
            (1, "status", "is not known; the task is open"),
        ])
    );
    assert_eq!(ann.titled("one").await.labels, ["x"]);
}

async fn values_of_google_takeout_that_are_lost_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let items = serde_json::json!([{"id": "a", "title": "one", "status": "cancelled", "notes": {"text": "x"}}]);
    let file = serde_json::json!({"items": [{"id": "l", "title": "Errands", "items": items}]});
    assert_eq!(
        sorted_issues(&ann, FileFormat::GoogleTakeout, &file.to_string()).await,
        owned(&[(1, "notes", "is not a text, and is not imported"), (1, "status", "is not known; the task is open")])
    );
}

async fn columns_of_csv_that_occur_twice_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (header, column) in [("title,notes, notes", "notes"), ("title,list,list", "list"), ("title,title,x", "title")] {
        let file = format!("{header}\none,two,three\n");
        let fields = ann.assert_not_imported(FileFormat::Csv, file.as_bytes()).await;
        assert_eq!(fields, [format!("rows[1].{column}")]);
    }
}

async fn labels_in_several_lines_are_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.import(FileFormat::Csv, "title,labels\none,\"home\nwork, x\r\n\"\"a, b\"\"\"\n").await;
    assert_eq!(ann.titled("one").await.labels, ["home", "work", " x", "a, b"]);
}

async fn rows_that_were_added_to_an_exported_csv_are_in_the_list_with_the_title(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let errands = ann.make_list("Errands").await;
    ann.make("in the default list").await;
    let milk = taskey_proto::task::v1::Task { list_id: errands.id.clone(), ..crate::support::titled("milk") };
    ann.create(milk).await.expect("a creation");
    let exported = ann.export(FileFormat::Csv).await;
    let columns = exported.lines().next().expect("a header").matches(',').count();
    let row = |id: &str, title: &str, list: &str| format!("{id},,,{title}{}{list}\r\n", ",".repeat(columns - 3));
    let id = service.clock.new_id().to_string();
    let added =
        [row("", "oats", "Errands"), row("", "call", "Tasks"), row("", "van", "Moving"), row(&id, "rye", "Errands")];
    let file = format!("{exported}{}", added.concat());
    let response = bob.import(FileFormat::Csv, &file).await;
    let description = "requires a list_id; the task is imported into the default list";
    assert_eq!((counts(&response), issues(&response)), ([6, 0, 2], vec![(7, "list", description)]));
    assert_eq!(bob.titled("oats").await.list_id, errands.id);
    for title in ["in the default list", "call", "rye"] {
        assert_eq!(bob.titled(title).await.list_id, bob.id.to_string(), "{title}");
    }
    let moving = bob.get_list(&bob.titled("van").await.list_id).await.expect("it exists");
    assert_eq!(moving.title, "Moving");
}

async fn ambiguous_json_lines_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[
        r#"{"task":{"id":"a","title":"one","labels":["a",5,{}]}}"#.to_owned(),
        r#"{"task":{"id":"b","title":"two"},"list":{"id":"l","title":"Errands"}}"#.to_owned(),
        r#"{"task":{"id":"c","title":"three","labels":"a"}}"#.to_owned(),
    ]);
    let file = file.replace("\"tasks\":3", "\"tasks\":2");
    let fields = ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await;
    assert_eq!(fields, ["rows[2].labels", "rows[3]", "rows[4].labels"]);
}

async fn properties_of_icalendar_that_are_lost_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let tasks = [
        "UID:a\nSUMMARY:one\nPERCENT-COMPLETE:100\n",
        "UID:b\nSUMMARY:two\nRELATED-TO:a\nRELATED-TO;RELTYPE=PARENT:c\n",
        "UID:c\nSUMMARY:three\nCOMPLETED:20261129T101500\n",
        "UID:d\nSUMMARY:four\nPERCENT-COMPLETE:100\nSTATUS:COMPLETED\n",
    ];
    let tasks = tasks.map(|task| format!("BEGIN:VTODO\n{task}END:VTODO\n")).concat();
    let file = format!("BEGIN:VCALENDAR\n{tasks}END:VCALENDAR\n");
    assert_eq!(
        sorted_issues(&ann, FileFormat::Icalendar, &file).await,
        owned(&[
            (5, "PERCENT-COMPLETE", "is 100, but STATUS is not COMPLETED; the task is open"),
            (11, "RELATED-TO", "is the second parent, and is not imported"),
            (16, "COMPLETED", "is not a time in UTC; the task is completed, but not at that time"),
        ])
    );
    let states = [("one", State::Open), ("three", State::Completed), ("four", State::Completed)];
    for (title, state) in states {
        assert_eq!(ann.titled(title).await.state(), state, "{title}");
    }
    assert_eq!(ann.titled("two").await.parent_id, ann.titled("one").await.id);
}

async fn rows_and_files_of_todoist_that_are_lost_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let project = "TYPE,CONTENT,INDENT\ntask,one,1\n,two,1\n,,1\ntask,three,1,,more\ntask,four,1,,\n";
    let response = ann.import(FileFormat::TodoistCsv, project).await;
    assert_eq!(
        issues(&response),
        [
            (3, "TYPE", "is empty; the row is not imported"),
            (5, "", "has more fields than columns; the rest is not imported"),
        ]
    );
    let backup = stored(&[
        ("Projects/", b""),
        ("read me.txt", b"x"),
        ("Projects/Errands.CSV", b"TYPE,CONTENT,INDENT\ntask,five,1\n"),
    ]);
    let response = ann.import_with(FileFormat::TodoistBackup, &backup, false).await.expect("it is imported");
    assert_eq!(issues(&response), [(0, "read me.txt", "is not a CSV file, and is not imported")]);
    assert_eq!(ann.get_list(&ann.titled("five").await.list_id).await.expect("it exists").title, "Errands");
}

async fn rows_with_the_id_of_another_task_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.import(FileFormat::Csv, "id,title\n1,one\n2,two\n").await;
    let response = ann.import(FileFormat::Csv, "id,title\n1,one\n2,call\n3,three\n").await;
    let description = "is that of a task with another title, which was imported before; the row is not imported";
    assert_eq!((counts(&response), issues(&response)), ([1, 2, 0], vec![(3, "id", description)]));
    assert_eq!(ann.titles().await, ["one", "two", "three"]);
}
