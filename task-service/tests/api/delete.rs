//! `DeleteTask`, `UndeleteTask` and the purge of deleted tasks.

use std::time::Duration;

use service_kit::{
    args, assert_refused,
    db::{DatabaseUrl, Db, Migrate, PoolArgs},
    on_each_database,
    testing::TestDatabase,
};
use sqlx::migrate::Migrator;
use taskey_proto::task::v1::{DeleteTaskRequest, Task};
use tokio::time::timeout;

use crate::support::{Service, WAIT_TIMEOUT, titled, with_revision};

on_each_database!(
    deleted_task_stays_readable_but_is_not_listed,
    task_cannot_be_deleted_twice,
    delete_with_allow_missing_returns_what_exists,
    deletion_checks_the_etag,
    undeleted_task_is_unchanged,
    undeleting_an_active_task_changes_nothing,
    undeletion_checks_the_etag,
    task_past_its_purge_time_is_not_found,
    retention_is_configurable,
    service_purges_on_start,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

fn delete_allow_missing(id: &str, etag: &str) -> DeleteTaskRequest {
    DeleteTaskRequest { id: id.to_owned(), etag: etag.to_owned(), allow_missing: true, ..DeleteTaskRequest::default() }
}

async fn deleted_task_stays_readable_but_is_not_listed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, other) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    service.manual_clock.advance(DAY);

    let deleted = ann.delete(&task.id, "").await.expect("a deletion");

    let now = service.clock.now();
    let expected = Task {
        update_time: Some(now.into()),
        delete_time: Some(now.into()),
        purge_time: Some((now + 30 * DAY).into()),
        etag: with_revision(&task.etag, 2),
        ..task
    };
    assert_eq!(deleted, expected);
    assert_eq!(ann.get(&deleted.id).await.expect("it exists"), expected);
    assert_eq!(ann.list_all(0, false).await, [&*other.id]);
    assert_eq!(ann.list_all(0, true).await, [other.id, deleted.id]);
}

async fn task_cannot_be_deleted_twice(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    for etag in ["", &deleted.etag, &task.etag, &with_revision(&task.etag, 9)] {
        assert_refused!(ann.delete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), deleted);
}

async fn delete_with_allow_missing_returns_what_exists(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete_with(delete_allow_missing(&task.id, "")).await.expect("a deletion");
    assert!(deleted.delete_time.is_some());
    service.manual_clock.advance(DAY);
    for etag in ["", &deleted.etag, &task.etag] {
        assert_eq!(ann.delete_with(delete_allow_missing(&task.id, etag)).await.expect("deleted before"), deleted);
    }
    let missing = service.clock.new_id().to_string();
    for etag in ["", "\"1\""] {
        assert_eq!(
            ann.delete_with(delete_allow_missing(&missing, etag)).await.expect("a missing task is allowed"),
            Task::default()
        );
    }
    assert_refused!(ann.delete_with(delete_allow_missing("1", "")).await, InvalidArgument, "VALIDATION_FAILED", "id");
}

async fn deletion_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    for etag in [&with_revision(&task.etag, 2), "\"1\"", "1", "*"] {
        assert_refused!(ann.delete(&task.id, etag).await, Aborted, "ETAG_MISMATCH");
        assert_refused!(ann.delete_with(delete_allow_missing(&task.id, etag)).await, Aborted, "ETAG_MISMATCH");
    }
    ann.delete(&task.id, &task.etag).await.expect("a deletion");
}

async fn undeleted_task_is_unchanged(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(Task { due_date: "2026-11-30".to_owned(), ..titled("Buy milk") }).await.expect("a task");
    ann.delete(&task.id, "").await.expect("a deletion");
    service.manual_clock.advance(29 * DAY);
    let undeleted = ann.undelete(&task.id, "").await.expect("an undeletion");
    let expected = Task { update_time: Some(service.clock.now().into()), etag: with_revision(&task.etag, 3), ..task };
    assert_eq!(undeleted, expected);
    assert_eq!(ann.list_all(0, false).await, [&*expected.id]);
    service.manual_clock.advance(2 * DAY);
    assert_eq!(ann.get(&expected.id).await.expect("it is not deleted"), expected);
}

async fn undeleting_an_active_task_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    service.manual_clock.advance(DAY);
    assert_eq!(ann.undelete(&task.id, "").await.expect("it is not deleted"), task);
    assert_eq!(ann.undelete(&task.id, &task.etag).await.expect("it is not deleted"), task);
}

async fn undeletion_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    assert_refused!(ann.undelete(&task.id, &with_revision(&task.etag, 2)).await, Aborted, "ETAG_MISMATCH");
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    assert_refused!(ann.undelete(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
    ann.undelete(&task.id, &deleted.etag).await.expect("an undeletion");
    let missing = service.clock.new_id().to_string();
    assert_refused!(ann.undelete(&missing, "").await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.undelete(&missing, "\"1\"").await, NotFound, "TASK_NOT_FOUND");
}

async fn task_past_its_purge_time_is_not_found(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    service.manual_clock.advance(30 * DAY);
    assert_refused!(ann.get(&task.id).await, NotFound, "TASK_NOT_FOUND");
    assert_eq!(ann.list_all(0, true).await, [""; 0]);
    for etag in ["", &deleted.etag, &task.etag] {
        assert_refused!(ann.undelete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.delete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
        assert_eq!(
            ann.delete_with(delete_allow_missing(&task.id, etag)).await.expect("a missing task is allowed"),
            Task::default()
        );
    }
}

async fn retention_is_configurable(database: TestDatabase) {
    let service = Service::start_with(&database, &["--purge-after", "1d"]).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    assert_eq!(deleted.purge_time, Some((service.clock.now() + DAY).into()));
}

async fn service_purges_on_start(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.make("Buy oats").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    service.manual_clock.advance(31 * DAY);
    let service = service.restart(&database).await;

    let db = open_database(&database.parsed_url()).await;
    let purged = async { while count_tasks(&db).await != 1 {} };
    timeout(WAIT_TIMEOUT, purged).await.expect("the deleted task is purged");
    service.stop().await;
}

/// Opens the service's database directly.
pub(crate) async fn open_database(url: &DatabaseUrl) -> Db {
    static MIGRATIONS: Migrator = sqlx::migrate!();
    let args = PoolArgs { database_connections: 1, database_timeout: WAIT_TIMEOUT, database_direct_url: None };
    Db::open(url, "task", &MIGRATIONS, Migrate::Always, &args).await.expect("the database opens")
}

async fn count_tasks(db: &Db) -> i64 {
    let count = db.fetch_optional("select count(*) from tasks", args![]).await;
    count.expect("tasks can be counted").expect("there is a row")
}

/// Executes SQL that no RPC could.
pub(crate) async fn execute(db: &Db, sql: &'static str) {
    db.execute(sql, args![]).await.expect("the statement is valid");
}
