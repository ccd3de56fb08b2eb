//! The history of a task: who changed which field, from which value to which.

use std::{collections::BTreeSet, time::Duration};

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CompleteTaskRequest, ListTaskHistoryRequest, ListTaskHistoryResponse, Task, TaskHistoryEntry, UpdateTaskRequest,
    move_task_request::Position, task::Priority, task_service_client::TaskServiceClient,
};
use tonic::{Request, Status};

use crate::{
    calls::{batch, before, complete, create, delete, into, rename, to, under},
    support::{Service, User, titled},
    token::TokenForger,
};

mod pages;
mod removal;

on_each_database!(
    creation_of_a_task_is_one_entry,
    every_field_of_an_update_has_an_entry,
    every_rpc_that_changes_a_task_is_recorded,
    writes_that_change_nothing_have_no_entry,
    batch_has_one_entry_for_each_field_that_differs_in_the_end,
    subtasks_that_change_with_their_parent_have_entries,
    tasks_of_a_deleted_list_have_entries,
    entry_names_the_session_and_the_user,
    entry_of_an_exchanged_token_names_the_service_account,
    long_value_is_cut_and_marked,
    concurrent_users_have_histories_of_their_own,
);

/// A field, its old value and its new value.
type Change = (String, String, String);

fn change(field: &str, old: &str, new: &str) -> Change {
    (field.to_owned(), old.to_owned(), new.to_owned())
}

fn creation() -> Change {
    change("", "", "")
}

/// Returns the text of a time in JSON.
fn json(time: Option<prost_types::Timestamp>) -> String {
    time.expect("the time is set").to_string()
}

impl User {
    async fn history_page(
        &self,
        id: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<ListTaskHistoryResponse, Status> {
        let request = ListTaskHistoryRequest { id: id.to_owned(), page_size, page_token: page_token.to_owned() };
        Ok(self.client.clone().list_task_history(request).await?.into_inner())
    }

    pub(crate) async fn history(&self, id: &str) -> Vec<TaskHistoryEntry> {
        self.history_page(id, 500, "").await.expect("a page").entries
    }

    /// Returns the changes of a task, newest first.
    async fn history_changes(&self, id: &str) -> Vec<Change> {
        let entries = self.history(id).await.into_iter();
        entries.map(|entry| (entry.field, entry.old_value, entry.new_value)).collect()
    }

    /// Returns the changes of a task that are newer than its `older` oldest ones, sorted by field.
    async fn newest_changes(&self, id: &str, older: usize) -> BTreeSet<Change> {
        let changes = self.history_changes(id).await;
        let newer = changes.len() - older;
        changes.into_iter().take(newer).collect()
    }
}

async fn creation_of_a_task_is_one_entry(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = Task { notes: "two bottles".to_owned(), labels: vec!["home".to_owned()], ..titled("Buy milk") };
    let task = ann.create(task).await.expect("a creation");
    let entries = ann.history(&task.id).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(ann.history_changes(&task.id).await, [creation()]);
    assert_eq!(entries[0].change_time, task.create_time);
}

async fn every_field_of_an_update_has_an_entry(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let id = ann.make("Buy milk").await.id;
    let labels = vec!["home".to_owned(), "a \"quoted\" one".to_owned()];
    let full = Task {
        id: id.clone(),
        notes: "two\nbottles".to_owned(),
        priority: Priority::High.into(),
        due_date: "2030-05-01".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        labels,
        ..titled("Buy oat milk")
    };
    ann.update(full.clone(), &["*"]).await.expect("an update");
    let label_array = r#"["home","a \"quoted\" one"]"#;
    let set = [
        change("title", "Buy milk", "Buy oat milk"),
        change("notes", "", "two\nbottles"),
        change("priority", "", "PRIORITY_HIGH"),
        change("due_date", "", "2030-05-01"),
        change("time_zone", "", "Europe/Berlin"),
        change("labels", "", label_array),
    ];
    assert_eq!(ann.newest_changes(&id, 1).await, BTreeSet::from(set));

    service.manual_clock.advance(Duration::from_secs(1));
    let due_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 120_000_000 });
    let timed = Task { id: id.clone(), due_time, ..titled("Buy oat milk") };
    let updated = ann.update(timed, &["*"]).await.expect("an update");
    let cleared = [
        change("notes", "two\nbottles", ""),
        change("priority", "PRIORITY_HIGH", ""),
        change("due_date", "2030-05-01", ""),
        change("due_time", "", "2030-03-17T17:46:40.120Z"),
        change("time_zone", "Europe/Berlin", ""),
        change("labels", label_array, ""),
    ];
    assert_eq!(ann.newest_changes(&id, 7).await, BTreeSet::from(cleared));
    let newest = ann.history(&id).await.into_iter().take(6);
    assert!(newest.into_iter().all(|entry| entry.change_time == updated.update_time));
}

async fn every_rpc_that_changes_a_task_is_recorded(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (list, parent, sibling) = (ann.make_list("Home").await, ann.make("Shop").await, ann.make("Buy tea").await);
    let task = ann.make("Buy milk").await;
    let id = &task.id;
    let mut expected = vec![creation()];

    let completed = ann.complete(id, "").await.expect("a completion");
    expected.insert(0, change("complete_time", "", &json(completed.complete_time)));
    ann.reopen(id, "").await.expect("a reopening");
    expected.insert(0, change("complete_time", &json(completed.complete_time), ""));
    let moved = ann.move_task(to(id, before(&sibling))).await.expect("a move");
    expected.insert(0, change("rank", &task.rank, &moved.rank));
    let deleted = ann.delete(id, "").await.expect("a deletion");
    expected.insert(0, change("delete_time", "", &json(deleted.delete_time)));
    ann.undelete(id, "").await.expect("an undeletion");
    expected.insert(0, change("delete_time", &json(deleted.delete_time), ""));
    ann.batch([rename(id, "Buy oats")]).await.expect("a batch");
    expected.insert(0, change("title", "Buy milk", "Buy oats"));
    assert_eq!(ann.history_changes(id).await, expected);

    let subtask = ann.move_task(under(id, &parent.id, Position::Last(true))).await.expect("a move");
    let changes = [change("parent_id", "", &parent.id), change("rank", &moved.rank, &subtask.rank)];
    assert_eq!(ann.newest_changes(id, expected.len()).await, BTreeSet::from(changes));
    let listed = ann.move_task(into(id, &list.id, Position::Last(true))).await.expect("a move");
    let changes = [
        change("list_id", &task.list_id, &list.id),
        change("parent_id", &parent.id, ""),
        change("rank", &subtask.rank, &listed.rank),
    ];
    assert_eq!(ann.newest_changes(id, expected.len() + 2).await, BTreeSet::from(changes));
}

async fn writes_that_change_nothing_have_no_entry(database: TestDatabase) {
    const REQUEST_ID: &str = "0198c0de-0000-7000-8000-000000000001";
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.update(Task { id: task.id.clone(), ..titled("Buy milk") }, &["title"]).await.expect("the same title");
    ann.reopen(&task.id, "").await.expect("an open task");
    ann.undelete(&task.id, "").await.expect("an active task");
    ann.update(Task { id: task.id.clone(), ..titled("") }, &["title"]).await.expect_err("an invalid title");
    let renamed = Some(Task { id: task.id.clone(), ..titled("Buy oats") });
    let dry_run = UpdateTaskRequest { task: renamed, validate_only: true, ..UpdateTaskRequest::default() };
    ann.client.clone().update_task(dry_run).await.expect("a dry run");
    assert_eq!(ann.history_changes(&task.id).await, [creation()]);

    let request_id = REQUEST_ID.to_owned();
    let request = CompleteTaskRequest { id: task.id.clone(), request_id, ..CompleteTaskRequest::default() };
    for _ in 0..3 {
        ann.client.clone().complete_task(request.clone()).await.expect("a completion or a replay");
    }
    assert_eq!(ann.history_changes(&task.id).await.len(), 2);
}

async fn batch_has_one_entry_for_each_field_that_differs_in_the_end(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    let writes = [
        create(titled("Buy tea")),
        rename(&milk.id, "Buy cream"),
        rename(&oats.id, "Buy rye"),
        rename(&milk.id, "Buy butter"),
        complete(&milk.id),
        rename(&oats.id, "Buy oats"),
    ];
    let tasks = ann.batch(writes).await.expect("a batch");
    assert_eq!(ann.history_changes(&tasks[0].id).await, [creation()]);
    let changes =
        [change("title", "Buy milk", "Buy butter"), change("complete_time", "", &json(tasks[4].complete_time))];
    assert_eq!(ann.newest_changes(&milk.id, 1).await, BTreeSet::from(changes));
    assert_eq!(ann.history_changes(&oats.id).await, [creation()], "the title is the same in the end");

    let failing = batch([rename(&oats.id, "Buy rye"), delete(&service.clock.new_id().to_string())]);
    ann.client.clone().batch_write_tasks(failing).await.expect_err("a task is missing");
    assert_eq!(ann.history_changes(&oats.id).await, [creation()]);
}

async fn subtasks_that_change_with_their_parent_have_entries(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (list, parent) = (ann.make_list("Home").await, ann.make("Shop").await);
    let child = ann.make_subtask(&parent, "Buy milk").await;
    let grandchild = ann.make_subtask(&child, "two bottles").await;

    let with_subtasks =
        CompleteTaskRequest { id: parent.id.clone(), include_subtasks: true, ..CompleteTaskRequest::default() };
    let completed = ann.client.clone().complete_task(with_subtasks).await.expect("a completion").into_inner();
    let deleted = ann.delete(&parent.id, "").await.expect("a deletion");
    ann.undelete(&parent.id, "").await.expect("an undeletion");
    ann.move_task(into(&parent.id, &list.id, Position::Last(true))).await.expect("a move");

    let delete_time = json(deleted.delete_time);
    let expected = [
        change("list_id", &parent.list_id, &list.id),
        change("delete_time", &delete_time, ""),
        change("delete_time", "", &delete_time),
        change("complete_time", "", &json(completed.complete_time)),
        creation(),
    ];
    for task in [&child, &grandchild] {
        assert_eq!(ann.history_changes(&task.id).await, expected);
        let entries = ann.history(&task.id).await;
        assert!(entries.iter().all(|entry| entry.actor_id == ann.id.to_string()), "{entries:?}");
    }
}

async fn tasks_of_a_deleted_list_have_entries(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (from, to) = (ann.make_list("From").await, ann.make_list("To").await);
    let (milk, oats) = (ann.make_in(&from, "Buy milk").await, ann.make_in(&from, "Buy oats").await);
    let deleted = ann.delete(&oats.id, "").await.expect("a deletion");
    ann.delete_list(&from.id, &to.id).await.expect("the tasks are moved");
    let moved = change("list_id", &from.id, &to.id);
    assert_eq!(ann.history_changes(&milk.id).await, [moved.clone(), creation()]);
    let oats_deleted = change("delete_time", "", &json(deleted.delete_time));
    assert_eq!(ann.history_changes(&oats.id).await, [moved.clone(), oats_deleted.clone(), creation()]);

    service.manual_clock.advance(Duration::from_secs(60));
    ann.delete_list(&to.id, "").await.expect("the tasks are deleted");
    let delete_time = json(ann.get(&milk.id).await.expect("it exists").delete_time);
    assert_eq!(ann.history_changes(&milk.id).await[0], change("delete_time", "", &delete_time));
    assert_eq!(ann.history_changes(&oats.id).await, [moved, oats_deleted, creation()], "it was deleted before");
    let entry = &ann.history(&milk.id).await[0];
    assert_eq!((&entry.actor_id, &entry.session_id), (&ann.id.to_string(), &ann.session_id.to_string()));
}

async fn entry_names_the_session_and_the_user(database: TestDatabase) {
    let service = Service::start(&database).await;
    let phone = service.user();
    let laptop = service.session(phone.id, service.clock.new_id());
    let task = phone.make("Buy milk").await;
    laptop.complete(&task.id, "").await.expect("a completion");
    let entries = phone.history(&task.id).await;
    let sessions: Vec<_> = entries.iter().map(|entry| (&entry.actor_id[..], &entry.session_id[..])).collect();
    let user = phone.id.to_string();
    let (by_laptop, by_phone) = (laptop.session_id.to_string(), phone.session_id.to_string());
    assert_eq!(sessions, [(&user[..], &by_laptop[..]), (&user[..], &by_phone[..])]);
}

async fn entry_of_an_exchanged_token_names_the_service_account(database: TestDatabase) {
    const SERVICE_ACCOUNT: &str = "0198c0de-0000-7000-8000-00000000000a";
    let service = Service::start(&database).await;
    let forger = TokenForger::new(&service, &database);
    let mut claims = forger.claims();
    let id = |claim: &str| claims[claim].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let ann = service.session(id("sub"), id("sid"));
    let task = ann.make("Buy milk").await;

    claims["act"] = serde_json::json!({ "sub": SERVICE_ACCOUNT, "act": { "sub": ann.id.to_string() } });
    let mut request = Request::new(CompleteTaskRequest { id: task.id.clone(), ..CompleteTaskRequest::default() });
    let header = forger.bearer(&forger.header(), &claims).parse().expect("ASCII");
    request.metadata_mut().insert("authorization", header);
    TaskServiceClient::new(service.channel.clone()).complete_task(request).await.expect("a completion");

    let entries = ann.history(&task.id).await;
    let actors: Vec<_> = entries.iter().map(|entry| &entry.actor_id[..]).collect();
    assert_eq!(actors, [SERVICE_ACCOUNT, &ann.id.to_string()]);
    assert!(entries.iter().all(|entry| entry.session_id == ann.session_id.to_string()), "{entries:?}");
}

async fn long_value_is_cut_and_marked(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (whole, long) = ("🥛".repeat(1000), "🥛".repeat(1001));
    let task = ann.create(Task { notes: whole.clone(), ..titled("Buy milk") }).await.expect("a creation");
    ann.update(Task { id: task.id.clone(), notes: long, ..Task::default() }, &["notes"]).await.expect("an update");
    let changes = ann.history_changes(&task.id).await;
    assert_eq!(changes, [change("notes", &whole, &format!("{whole}…")), creation()]);
}

async fn concurrent_users_have_histories_of_their_own(database: TestDatabase) {
    let service = Service::start(&database).await;
    let users: Vec<_> = (0..40).map(|_| service.user()).collect();
    let histories = users.iter().enumerate().map(async |(number, user)| {
        let task = user.make(&format!("task {number}")).await;
        for name in ["first", "second"] {
            let title = format!("{name} {number}");
            user.update(Task { id: task.id.clone(), ..titled(&title) }, &["title"]).await.expect("an update");
            user.complete(&task.id, "").await.expect("a completion");
        }
        let other = user.make("Buy milk").await;
        assert_eq!(user.history_changes(&other.id).await, [creation()]);
        let entries = user.history(&task.id).await;
        let is_own = |entry: &TaskHistoryEntry| {
            entry.actor_id == user.id.to_string() && entry.session_id == user.session_id.to_string()
        };
        assert!(entries.iter().all(is_own), "{entries:?}");
        let complete_time = json(user.get(&task.id).await.expect("it exists").complete_time);
        let expected = [
            change("title", &format!("first {number}"), &format!("second {number}")),
            change("complete_time", "", &complete_time),
            change("title", &format!("task {number}"), &format!("first {number}")),
            creation(),
        ];
        assert_eq!(user.history_changes(&task.id).await, expected);
    });
    futures::future::join_all(histories).await;
}
