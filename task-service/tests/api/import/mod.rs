//! Imports of tasks from files.

use futures::stream;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, ImportTasksRequest, ImportTasksResponse, Task};
use tokio::time::timeout;
use tonic::Status;
use tonic_types::StatusExt;

use crate::support::{Service, User, WAIT_TIMEOUT, pause, titled};

mod alarms;
mod bad_files;
mod formats;
mod large;
mod losses;
mod parents;
mod replicas;
mod round_trip;
mod searches;
mod series;

on_each_database!(
    file_of_another_account_is_imported_with_all_fields,
    imported_file_changes_nothing_the_second_time,
    file_of_the_same_account_changes_nothing,
    dry_run_reports_and_changes_nothing,
    parents_may_follow_their_subtasks,
    imported_tasks_come_after_the_existing_ones_in_the_order_of_the_file,
    deleted_tasks_are_not_imported_again,
    deleted_lists_are_created_again_for_new_tasks,
    tasks_that_were_purged_are_imported_with_new_ids,
    what_does_not_fit_is_reported,
    tasks_beyond_the_quota_are_refused_before_any_is_created,
    import_continues_after_a_part_was_imported,
    watchers_receive_the_imported_tasks,
);

/// The lines of a file, between its first and its last.
pub(crate) fn jsonl(lines: &[String]) -> String {
    let tasks = lines.iter().filter(|line| line.starts_with("{\"task\"")).count();
    let lines: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    format!("{{\"format\":\"taskey\",\"version\":1}}\n{lines}{{\"end\":{{\"tasks\":{tasks}}}}}\n")
}

/// Returns the line of a task.
pub(crate) fn task_line(id: &str, parent_id: &str, title: &str) -> String {
    serde_json::json!({"task": {"id": id, "parentId": parent_id, "title": title}}).to_string()
}

impl User {
    /// Imports a file in parts.
    pub(crate) async fn import_with(
        &self,
        format: FileFormat,
        file: &[u8],
        validate_only: bool,
    ) -> Result<ImportTasksResponse, Status> {
        let first = ImportTasksRequest { format: format.into(), validate_only, content: Vec::new() };
        let parts = file.chunks(50_000).map(|part| ImportTasksRequest { content: part.to_vec(), ..Default::default() });
        let messages: Vec<_> = [first].into_iter().chain(parts).collect();
        Ok(self.client.clone().import_tasks(stream::iter(messages)).await?.into_inner())
    }

    pub(crate) async fn import(&self, format: FileFormat, file: &str) -> ImportTasksResponse {
        self.import_with(format, file.as_bytes(), false).await.expect("the file is imported")
    }

    /// Returns the titles of all active tasks, in the order of an export.
    pub(crate) async fn titles(&self) -> Vec<String> {
        let file = self.export(FileFormat::Jsonl).await;
        let lines = file.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.filter_map(|line: serde_json::Value| Some(line["task"]["title"].as_str()?.to_owned())).collect()
    }

    /// Returns the task with this title.
    pub(crate) async fn titled(&self, title: &str) -> Task {
        let ids = self.list_all(500, false).await;
        for id in ids {
            let task = self.get(&id).await.expect("it exists");
            if task.title == title {
                return task;
            }
        }
        panic!("there is no task {title}")
    }
}

/// Returns the numbers of created and unchanged tasks, and of created lists.
pub(crate) fn counts(response: &ImportTasksResponse) -> [i32; 3] {
    [response.created_task_count, response.unchanged_task_count, response.created_list_count]
}

/// Returns the rows, fields and descriptions of the issues.
pub(crate) fn issues(response: &ImportTasksResponse) -> Vec<(i32, &str, &str)> {
    response.issues.iter().map(|issue| (issue.row, issue.field.as_str(), issue.description.as_str())).collect()
}

/// Returns the invalid fields of a refused import.
pub(crate) fn invalid_fields(refused: &Status) -> Vec<String> {
    let violations = refused.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

async fn file_of_another_account_is_imported_with_all_fields(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let list = ann.make_list("Errands").await;
    let full = Task { list_id: list.id.clone(), ..crate::export::full() };
    let parent = ann.create(full).await.expect("the task is created");
    let child = ann.create(Task { parent_id: parent.id.clone(), ..titled("Oats") }).await.expect("it is created");
    let child = ann.complete(&child.id, "").await.expect("it is completed");
    let file = ann.export(FileFormat::Jsonl).await;
    service.manual_clock.advance(std::time::Duration::from_secs(3600));

    let response = bob.import(FileFormat::Jsonl, &file).await;
    assert_eq!((counts(&response), issues(&response)), ([2, 0, 1], vec![]));
    let imported = bob.get(&child.id).await.expect("it has the same id");
    assert_eq!((imported.create_time, imported.complete_time), (child.create_time, child.complete_time));
    assert_eq!(
        (&imported.parent_id, &imported.list_id, &imported.owner_id),
        (&parent.id, &list.id, &bob.id.to_string())
    );
    assert!(imported.source_id.is_empty() && imported.update_time != child.update_time);
    assert_eq!(bob.export(FileFormat::Jsonl).await, file);
    assert_eq!(ann.export(FileFormat::Jsonl).await, file);
}

async fn imported_file_changes_nothing_the_second_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    ann.make_list("Empty").await;
    ann.make("one").await;
    for format in [FileFormat::Jsonl, FileFormat::Csv, FileFormat::Icalendar] {
        let file = ann.export(format).await;
        bob.import(format, &file).await;
        let before = bob.export(FileFormat::Jsonl).await;
        assert_eq!(counts(&bob.import(format, &file).await), [0, 1, 0], "{format:?}");
        assert_eq!(bob.export(FileFormat::Jsonl).await, before);
    }
}

async fn file_of_the_same_account_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.make_list("Errands").await;
    ann.make("one").await;
    let file = ann.export(FileFormat::Jsonl).await;
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [0, 1, 0]);
    assert_eq!(ann.export(FileFormat::Jsonl).await, file);
}

async fn dry_run_reports_and_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let before = ann.export(FileFormat::Jsonl).await;
    let long = jsonl(&[
        r#"{"list":{"id":"l","title":"Errands"}}"#.to_owned(),
        serde_json::json!({"task": {"id": "a", "listId": "l", "title": "x".repeat(201)}}).to_string(),
    ]);
    let response = ann.import_with(FileFormat::Jsonl, long.as_bytes(), true).await.expect("a report");
    assert_eq!(counts(&response), [1, 0, 1]);
    let description = "is longer than 200 characters; the whole title is in the notes";
    assert_eq!((issues(&response), response.issue_count), (vec![(3, "title", description)], 1));
    assert_eq!(ann.export(FileFormat::Jsonl).await, before);
}

async fn parents_may_follow_their_subtasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let lines = [("c", "b", "three"), ("b", "a", "two"), ("a", "", "one"), ("d", "", "four")];
    let file = jsonl(&lines.map(|(id, parent, title)| task_line(id, parent, title)));
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [4, 0, 0]);
    let [one, two, three] = [ann.titled("one").await, ann.titled("two").await, ann.titled("three").await];
    assert_eq!((&three.parent_id, &two.parent_id, &one.parent_id[..]), (&two.id, &one.id, ""));
    // Ids that are no UUIDs are stored as source ids.
    assert_eq!([one.source_id, two.source_id, three.source_id], ["a", "b", "c"]);
}

async fn imported_tasks_come_after_the_existing_ones_in_the_order_of_the_file(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.make("before").await;
    // More than are created together, and half of them as subtasks.
    let line = |n: u32| task_line(&n.to_string(), if n.is_multiple_of(2) { "" } else { "0" }, &n.to_string());
    let numbers: Vec<_> = (0..250).rev().collect();
    let file = jsonl(&numbers.iter().map(|n| line(*n)).collect::<Vec<_>>());
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [250, 0, 0]);
    ann.make("after").await;
    let expected: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    let titles = ann.titles().await;
    assert_eq!((&titles[0][..], &titles[1..251], &titles[251][..]), ("before", &expected[..], "after"));
}

async fn deleted_tasks_are_not_imported_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[task_line("a", "", "one"), task_line("b", "a", "two")]);
    ann.import(FileFormat::Jsonl, &file).await;
    let one = ann.titled("one").await;
    ann.delete(&one.id, "").await.expect("a deletion");
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [0, 2, 0]);
    assert!(ann.titles().await.is_empty());
    // A new subtask of the deleted task is imported at the top level.
    let more = jsonl(&[task_line("a", "", "one"), task_line("c", "a", "three")]);
    let response = ann.import(FileFormat::Jsonl, &more).await;
    let description = "is deleted; the task is imported at the top level";
    assert_eq!((counts(&response), issues(&response)), ([1, 1, 0], vec![(3, "parent_id", description)]));
}

async fn deleted_lists_are_created_again_for_new_tasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = r#"{"list":{"id":"l","title":"Errands"}}"#.to_owned();
    let task = |id: &str| serde_json::json!({"task": {"id": id, "listId": "l", "title": id}}).to_string();
    let file = jsonl(&[list.clone(), task("a")]);
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [1, 0, 1]);
    let deleted = ann.titled("a").await.list_id;
    ann.delete_list(&deleted, "").await.expect("a deletion");
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [0, 1, 0]);
    let more = jsonl(&[list, task("a"), task("b")]);
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &more).await), [1, 1, 1]);
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &more).await), [0, 2, 0]);
    let created = ann.titled("b").await.list_id;
    assert_ne!(created, deleted);
    assert_eq!(ann.get_list(&created).await.expect("it exists").title, "Errands");
}

async fn tasks_that_were_purged_are_imported_with_new_ids(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("one").await;
    let file = ann.export(FileFormat::Jsonl).await;
    ann.delete(&task.id, "").await.expect("a deletion");
    service.manual_clock.advance(std::time::Duration::from_secs(31 * 24 * 3600));
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    let purged = async {
        while ann.import_with(FileFormat::Jsonl, file.as_bytes(), true).await.is_ok_and(|dry| counts(&dry)[0] == 0) {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, purged).await.expect("the deleted task is purged");
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [1, 0, 0]);
    let imported = ann.titled("one").await;
    assert!(imported.id != task.id && imported.source_id == task.id);
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [0, 1, 0]);
}

async fn what_does_not_fit_is_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[
        serde_json::json!({"task": {"id": "a", "title": "", "listId": "none", "timeZone": "Mars/Base"}}).to_string(),
        serde_json::json!({"task": {"id": "b", "title": "two", "parentId": "none", "color": "red"}}).to_string(),
    ]);
    let response = ann.import(FileFormat::Jsonl, &file).await;
    let mut found = issues(&response);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (2, "list_id", "is not in the file; the task is imported into the default list"),
            (2, "time_zone", "is not a time zone of the IANA database, and is not imported"),
            (2, "title", "is empty; the task is imported as \"(no title)\""),
            (3, "", "a field is unknown, and is not imported"),
            (3, "parent_id", "is not in the file; the task is imported at the top level"),
        ]
    );
    assert_eq!(ann.titles().await, ["(no title)", "two"]);
}

async fn tasks_beyond_the_quota_are_refused_before_any_is_created(database: TestDatabase) {
    let service = Service::start_with(&database, &["--max-tasks", "10", "--max-lists", "3"]).await;
    let ann = service.user();
    ann.make("existing").await;
    let tasks = |count: u32| (0..count).map(|n| task_line(&n.to_string(), "", "x")).collect::<Vec<_>>();
    let lists = (0..3).map(|n| format!("{{\"list\":{{\"id\":\"{n}\",\"title\":\"x\"}}}}")).collect::<Vec<_>>();
    for file in [jsonl(&tasks(10)), jsonl(&tasks(100_000)), jsonl(&lists)] {
        for validate_only in [true, false] {
            let refused = ann.import_with(FileFormat::Jsonl, file.as_bytes(), validate_only).await;
            assert_refused!(refused, ResourceExhausted, "QUOTA_EXCEEDED");
        }
    }
    assert_eq!(ann.titles().await, ["existing"]);
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &jsonl(&tasks(9))).await), [9, 0, 0]);
}

async fn import_continues_after_a_part_was_imported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let lines: Vec<_> = (0..150).map(|n| task_line(&n.to_string(), "", &n.to_string())).collect();
    ann.import(FileFormat::Jsonl, &jsonl(&lines[..60])).await;
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &jsonl(&lines)).await), [90, 60, 0]);
    assert_eq!(ann.titles().await, (0..150).map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn watchers_receive_the_imported_tasks(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let request = taskey_proto::task::v1::WatchTasksRequest::default();
    let mut watch = ann.client.clone().watch_tasks(request).await.expect("a watch").into_inner();
    watch.message().await.expect("the watch continues").expect("the first message");
    ann.import(FileFormat::Jsonl, &jsonl(&[task_line("a", "", "one")])).await;
    let update = watch.message().await.expect("the watch continues").expect("a message");
    assert_eq!(update.changes[0].task.as_ref().expect("an update").source_id, "a");
}
