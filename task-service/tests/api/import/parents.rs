//! The levels of subtasks, and parents that exist in the account.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, MoveTaskRequest, Task};

use super::{counts, issues, jsonl, task_line};
use crate::support::{Service, titled};

on_each_database!(
    subtasks_that_are_too_deep_become_siblings_of_their_parents,
    subtasks_that_are_too_deep_in_the_account_become_siblings_of_their_parents,
    new_subtasks_are_in_the_list_of_an_existing_parent_that_was_moved,
);

async fn subtasks_that_are_too_deep_become_siblings_of_their_parents(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let line =
        |n: u32| task_line(&n.to_string(), &if n == 1 { String::new() } else { (n - 1).to_string() }, &n.to_string());
    let file = jsonl(&(1..=7).map(line).collect::<Vec<_>>());
    let response = ann.import(FileFormat::Jsonl, &file).await;
    let description = "is on the 5th level; the task is imported as its sibling";
    assert_eq!(issues(&response), [(7, "parent_id", description), (8, "parent_id", description)]);
    let four = ann.titled("4").await;
    for title in ["5", "6", "7"] {
        assert_eq!(ann.titled(title).await.parent_id, four.id, "{title}");
    }
}

async fn subtasks_that_are_too_deep_in_the_account_become_siblings_of_their_parents(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[task_line("a", "", "a")]);
    ann.import(FileFormat::Jsonl, &file).await;
    let (mut parent, mut ids) = (String::new(), Vec::new());
    for title in ["1", "2", "3", "4"] {
        parent = ann.create(Task { parent_id: parent, ..titled(title) }).await.expect("a creation").id;
        ids.push(parent.clone());
    }
    let a = ann.titled("a").await;
    let below = |parent: &str| MoveTaskRequest { id: a.id.clone(), parent_id: parent.to_owned(), ..Default::default() };
    // In the file, the parent remains at the top level.
    let lines = [("a", "", "a"), ("b", "a", "b"), ("c", "b", "c"), ("d", "b", "d")];
    let file = jsonl(&lines.map(|(id, parent, title)| task_line(id, parent, title)));
    let description = "is on the 5th level; the task is imported as its sibling";
    ann.move_task(below(&ids[3])).await.expect("a move");
    let dry = ann.import_with(FileFormat::Jsonl, file.as_bytes(), true).await.expect("a report");
    let response = ann.import(FileFormat::Jsonl, &file).await;
    assert_eq!((counts(&response), &dry), ([3, 1, 0], &response));
    let mut found = issues(&response);
    found.sort_unstable();
    assert_eq!(found, [3, 4, 5].map(|row| (row, "parent_id", description)));
    for title in ["a", "b", "c", "d"] {
        assert_eq!(ann.titled(title).await.parent_id, ids[3], "{title}");
    }
    assert_eq!(counts(&ann.import(FileFormat::Jsonl, &file).await), [0, 4, 0]);
    // One level higher, one of the two levels fits.
    ann.move_task(below(&ids[2])).await.expect("a move");
    let lines = [("a", "", "a"), ("e", "a", "e"), ("f", "e", "f")];
    let response =
        ann.import(FileFormat::Jsonl, &jsonl(&lines.map(|(id, parent, title)| task_line(id, parent, title)))).await;
    assert_eq!((counts(&response), issues(&response)), ([2, 1, 0], vec![(4, "parent_id", description)]));
    assert_eq!([ann.titled("e").await.parent_id, ann.titled("f").await.parent_id], [a.id.clone(), a.id]);
}

async fn new_subtasks_are_in_the_list_of_an_existing_parent_that_was_moved(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let list = r#"{"list":{"id":"l","title":"Errands"}}"#.to_owned();
    let line = |id: &str, parent: &str| {
        serde_json::json!({"task": {"id": id, "parentId": parent, "listId": "l", "title": id}}).to_string()
    };
    ann.import(FileFormat::Jsonl, &jsonl(&[list.clone(), line("a", "")])).await;
    let (a, other) = (ann.titled("a").await, ann.make_list("Other").await);
    let to_other = MoveTaskRequest { id: a.id.clone(), list_id: other.id.clone(), ..Default::default() };
    ann.move_task(to_other).await.expect("a move");
    ann.delete_list(&a.list_id, "").await.expect("a deletion");
    let response = ann.import(FileFormat::Jsonl, &jsonl(&[list, line("a", ""), line("b", "a")])).await;
    assert_eq!((counts(&response)[..2].to_vec(), issues(&response)), (vec![1, 1], vec![]));
    let b = ann.titled("b").await;
    assert_eq!((b.parent_id, b.list_id), (a.id, other.id));
}
