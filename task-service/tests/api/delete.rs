//! `DeleteTask`, `UndeleteTask`, and what becomes of deleted tasks.

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

use crate::support::{PATIENCE, Service, titled};

on_each_database!(
    a_deleted_task_stays_readable_and_leaves_the_list,
    a_task_is_deleted_once,
    deleting_what_may_be_missing_answers_what_there_is,
    a_deletion_checks_the_etag,
    an_undeleted_task_is_as_it_was,
    undeleting_a_live_task_changes_nothing,
    an_undeletion_checks_the_etag,
    a_task_past_its_purge_time_is_missing,
    the_retention_is_a_setting,
    a_service_purges_when_it_starts,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

fn maybe(id: &str, etag: &str) -> DeleteTaskRequest {
    DeleteTaskRequest { id: id.to_owned(), etag: etag.to_owned(), allow_missing: true, ..DeleteTaskRequest::default() }
}

async fn a_deleted_task_stays_readable_and_leaves_the_list(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let (task, other) = (ann.make("Buy milk").await, ann.make("Buy oats").await);
    service.hands.advance(DAY);

    let deleted = ann.delete(&task.id, "").await.expect("a deletion");

    let now = service.clock.now();
    let expected = Task {
        update_time: Some(now.into()),
        delete_time: Some(now.into()),
        purge_time: Some((now + 30 * DAY).into()),
        etag: "\"2\"".to_owned(),
        ..task
    };
    assert_eq!(deleted, expected);
    assert_eq!(ann.get(&deleted.id).await.expect("it is there"), expected);
    assert_eq!(ann.list_all(0, false).await, [&*other.id]);
    assert_eq!(ann.list_all(0, true).await, [other.id, deleted.id]);
}

async fn a_task_is_deleted_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    for etag in ["", &deleted.etag, &task.etag, "\"9\""] {
        assert_refused!(ann.delete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
    }
    assert_eq!(ann.get(&task.id).await.expect("it is there"), deleted);
}

async fn deleting_what_may_be_missing_answers_what_there_is(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete_with(maybe(&task.id, "")).await.expect("a deletion");
    assert!(deleted.delete_time.is_some());
    service.hands.advance(DAY);
    for etag in ["", &deleted.etag, &task.etag] {
        assert_eq!(ann.delete_with(maybe(&task.id, etag)).await.expect("deleted before"), deleted);
    }
    let missing = service.clock.new_id().to_string();
    for etag in ["", "\"1\""] {
        assert_eq!(ann.delete_with(maybe(&missing, etag)).await.expect("none is fine"), Task::default());
    }
    assert_refused!(ann.delete_with(maybe("1", "")).await, InvalidArgument, "VALIDATION_FAILED", "id");
}

async fn a_deletion_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    for etag in ["\"2\"", "1", "*"] {
        assert_refused!(ann.delete(&task.id, etag).await, Aborted, "ETAG_MISMATCH");
        assert_refused!(ann.delete_with(maybe(&task.id, etag)).await, Aborted, "ETAG_MISMATCH");
    }
    ann.delete(&task.id, &task.etag).await.expect("a deletion");
}

async fn an_undeleted_task_is_as_it_was(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(Task { due_date: "2026-11-30".to_owned(), ..titled("Buy milk") }).await.expect("a task");
    ann.delete(&task.id, "").await.expect("a deletion");
    service.hands.advance(29 * DAY);
    let undeleted = ann.undelete(&task.id, "").await.expect("it is still there");
    let expected = Task { update_time: Some(service.clock.now().into()), etag: "\"3\"".to_owned(), ..task };
    assert_eq!(undeleted, expected);
    assert_eq!(ann.list_all(0, false).await, [&*expected.id]);
    service.hands.advance(2 * DAY);
    assert_eq!(ann.get(&expected.id).await.expect("it is live"), expected);
}

async fn undeleting_a_live_task_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    service.hands.advance(DAY);
    assert_eq!(ann.undelete(&task.id, "").await.expect("it is live"), task);
    assert_eq!(ann.undelete(&task.id, &task.etag).await.expect("it is live"), task);
}

async fn an_undeletion_checks_the_etag(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    assert_refused!(ann.undelete(&task.id, "\"2\"").await, Aborted, "ETAG_MISMATCH");
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    assert_refused!(ann.undelete(&task.id, &task.etag).await, Aborted, "ETAG_MISMATCH");
    ann.undelete(&task.id, &deleted.etag).await.expect("an undeletion");
    let missing = service.clock.new_id().to_string();
    assert_refused!(ann.undelete(&missing, "").await, NotFound, "TASK_NOT_FOUND");
    assert_refused!(ann.undelete(&missing, "\"1\"").await, NotFound, "TASK_NOT_FOUND");
}

async fn a_task_past_its_purge_time_is_missing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    service.hands.advance(30 * DAY);
    assert_refused!(ann.get(&task.id).await, NotFound, "TASK_NOT_FOUND");
    assert_eq!(ann.list_all(0, true).await, [""; 0]);
    for etag in ["", &deleted.etag, &task.etag] {
        assert_refused!(ann.undelete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.delete(&task.id, etag).await, NotFound, "TASK_NOT_FOUND");
        assert_eq!(ann.delete_with(maybe(&task.id, etag)).await.expect("none is fine"), Task::default());
    }
}

async fn the_retention_is_a_setting(database: TestDatabase) {
    let service = Service::start_with(&database, &["--purge-after", "1d"]).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    assert_eq!(deleted.purge_time, Some((service.clock.now() + DAY).into()));
}

async fn a_service_purges_when_it_starts(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    ann.make("Buy oats").await;
    ann.delete(&task.id, "").await.expect("a deletion");
    service.hands.advance(31 * DAY);
    let service = service.restart(&database).await;

    let db = open(&database.parsed_url()).await;
    let purged = async { while count_tasks(&db).await != 1 {} };
    timeout(PATIENCE, purged).await.expect("the deleted task goes");
    service.stop().await;
}

/// The database beside the service.
pub(crate) async fn open(url: &DatabaseUrl) -> Db {
    static MIGRATIONS: Migrator = sqlx::migrate!();
    let args = PoolArgs { database_connections: 1, database_timeout: PATIENCE, database_direct_url: None };
    Db::open(url, "task", &MIGRATIONS, Migrate::Always, &args).await.expect("the database opens")
}

async fn count_tasks(db: &Db) -> i64 {
    let count = db.fetch_optional("select count(*) from tasks", args![]).await;
    count.expect("tasks can be counted").expect("there is a row")
}

/// Does what no call could.
pub(crate) async fn execute(db: &Db, sql: &'static str) {
    db.execute(sql, args![]).await.expect("the statement is good");
}
