//! When entries of a history are removed: with the task, with the account, when they expire, and beyond the limits.

use std::time::Duration;

use service_kit::{args, assert_refused, db::Db, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    Task, UpdateTaskRequest, batch_write_tasks_request::write::Write as Kind, task::Priority,
};
use tokio::time::timeout;

use crate::{
    calls::{create, delete},
    delete::{execute, open_database},
    support::{Service, User, WAIT_TIMEOUT, pause, titled},
};

on_each_database!(
    history_of_a_deleted_task_is_readable_until_the_purge,
    entries_expire_after_400_days,
    entries_of_a_deleted_account_are_removed,
    newest_thousand_entries_of_a_task_are_kept,
    oldest_entries_of_an_account_beyond_16_mebibytes_are_removed,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn count_entries(db: &Db, user: &User) -> i64 {
    const COUNT: &str = "select count(*) from task_history where owner_id = $1";
    db.fetch_optional(COUNT, args![user.id]).await.expect("entries can be counted").expect("there is a row")
}

/// Waits until this many entries of a user are stored.
async fn wait_for_entries(db: &Db, user: &User, count: i64) {
    let reached = async {
        while count_entries(db, user).await != count {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, reached).await.expect("entries are removed");
}

async fn rename(user: &User, id: &str, title: &str) {
    user.update(Task { id: id.to_owned(), ..titled(title) }, &["title"]).await.expect("an update");
}

/// Returns the title and the notes of a task with one of the words.
fn with_word(id: &str, word: &str) -> Task {
    Task { id: id.to_owned(), notes: word.to_owned(), ..titled(word) }
}

fn update(task: Task) -> Kind {
    Kind::Update(UpdateTaskRequest { task: Some(task), ..UpdateTaskRequest::default() })
}

/// Creates 100 tasks with 600 entries, more than one transaction deletes. Returns their ids.
async fn make_many_entries(user: &User) -> Vec<String> {
    let tasks = user.batch((0..100).map(|_| create(titled("Buy milk")))).await.expect("tasks are created");
    let ids: Vec<_> = tasks.into_iter().map(|task| task.id).collect();
    let full = |id: &String| Task {
        priority: Priority::High.into(),
        due_date: "2030-05-01".to_owned(),
        labels: vec!["home".to_owned()],
        ..with_word(id, "oats")
    };
    user.batch(ids.iter().map(|id| update(full(id)))).await.expect("the tasks are updated");
    ids
}

async fn history_of_a_deleted_task_is_readable_until_the_purge(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (ids, oats) = (make_many_entries(&ann).await, ann.make("Buy oats").await);
    ann.batch(ids.iter().map(|id| delete(id))).await.expect("the tasks are deleted");
    assert_eq!(ann.history(&ids[0]).await[0].field, "delete_time");
    let db = open_database(&database.parsed_url()).await;
    assert_eq!(count_entries(&db, &ann).await, 701);

    service.manual_clock.advance(30 * DAY);
    assert_refused!(ann.history_page(&ids[0], 0, "").await, NotFound, "TASK_NOT_FOUND");
    let service = service.restart(&database).await;
    let ann = ann.connected_to(&service);
    wait_for_entries(&db, &ann, 1).await;
    assert_eq!(ann.history(&oats.id).await.len(), 1);
    db.close().await;
}

async fn entries_expire_after_400_days(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (ids, tea) = (make_many_entries(&ann).await, bob.make("Buy tea").await);
    service.manual_clock.advance(DAY);
    rename(&ann, &ids[0], "Buy rye").await;

    service.manual_clock.advance(399 * DAY);
    let titles: Vec<_> = ann.history(&ids[0]).await.into_iter().map(|entry| entry.new_value).collect();
    assert_eq!(titles, ["Buy rye"], "expired entries are not returned, even if they are still stored");
    let service = service.restart(&database).await;
    let db = open_database(&database.parsed_url()).await;
    let (ann, bob) = (ann.connected_to(&service), bob.connected_to(&service));
    wait_for_entries(&db, &ann, 1).await;
    wait_for_entries(&db, &bob, 0).await;
    assert!(bob.history(&tea.id).await.is_empty());

    // Entries that are added after the last one has expired expire too.
    rename(&bob, &tea.id, "Buy coffee").await;
    assert_eq!(bob.history(&tea.id).await.len(), 1);
    service.manual_clock.advance(400 * DAY);
    let service = service.restart(&database).await;
    wait_for_entries(&db, &ann.connected_to(&service), 0).await;
    wait_for_entries(&db, &bob.connected_to(&service), 0).await;
    db.close().await;
}

async fn entries_of_a_deleted_account_are_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    make_many_entries(&ann).await;
    let tea = bob.make("Buy tea").await;
    let db = open_database(&database.parsed_url()).await;
    assert_eq!(count_entries(&db, &ann).await, 600);
    service.feed.delete([ann.id]);
    wait_for_entries(&db, &ann, 0).await;
    assert_eq!(bob.history(&tea.id).await.len(), 1);
    db.close().await;
}

async fn newest_thousand_entries_of_a_task_are_kept(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (milk, oats) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    for number in 1..200 {
        let task = Task {
            labels: vec![number.to_string()],
            priority: number % 2 + 1,
            due_date: format!("{}-05-01", 2000 + number),
            time_zone: if number % 2 == 0 { "Europe/Berlin" } else { "Europe/Paris" }.to_owned(),
            ..with_word(&milk.id, &number.to_string())
        };
        // Six fields change.
        ann.update(task, &["*"]).await.expect("an update");
    }
    let db = open_database(&database.parsed_url()).await;
    // The entries of the last 167 updates are left, and that of the other task.
    assert_eq!(count_entries(&db, &ann).await, 6 * 167 + 1);
    assert_eq!(ann.history(&milk.id).await[0].new_value, "199");
    assert_eq!(ann.history(&oats.id).await.len(), 1);
    db.close().await;
}

async fn oldest_entries_of_an_account_beyond_16_mebibytes_are_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    let (milk, oats, tea) = (ann.make("Buy milk").await, ann.make("Buy oats").await, bob.make("Buy tea").await);
    let db = open_database(&database.parsed_url()).await;
    // As if the account had stored more entries before the second one.
    execute(&db, "update task_history set position = 16777200 where position > 0").await;
    execute(&db, "update owners set history_bytes = 16777456 where history_bytes > 256").await;
    rename(&ann, &oats.id, "Buy rye").await;
    assert_eq!(ann.history(&milk.id).await.len(), 1, "most writes remove nothing");
    for number in 0..9 {
        let notes = format!("{number}{}", "🥛".repeat(1000));
        let task = Task { id: oats.id.clone(), notes, ..Task::default() };
        ann.update(task, &["notes"]).await.expect("an update");
    }
    assert!(ann.history(&milk.id).await.is_empty(), "the oldest entry is removed");
    assert_eq!(count_entries(&db, &ann).await, 11);
    assert_eq!(bob.history(&tea.id).await.len(), 1);
    db.close().await;
}
