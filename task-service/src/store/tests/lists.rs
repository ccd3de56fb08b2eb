//! The rows of lists in the change feed.

use service_kit::{args, db::QueryBuilder, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{CreateTaskListRequest, TaskList};

use super::{storage::count_rows, *};
use crate::{
    model::{Target, sync::SyncPoint},
    request,
    store::{
        changes::{self, Change},
        lists::{self, ListWrite},
        storage_limits::MAX_DELETED_TASKS,
    },
};

on_each_database!(sync_tokens_from_before_the_migration_receive_all_lists, tombstones_of_lists_are_bounded);

const OWNER: Uuid = Uuid::from_u128(1);

async fn sync_tokens_from_before_the_migration_receive_all_lists(database: TestDatabase) {
    const COUNTER: &str = "
        insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists) values ($1, 5, 3, 0, 2)";
    const LIST: &str = "
        insert into task_lists (owner_id, id, title, create_time, update_time, revision) values ($1, $2, 'Work', 1, 1, 1)";
    let older = MIGRATIONS.iter().filter(|migration| migration.version < 8).cloned().collect();
    let db = open_with(&database, &Migrator::with_migrations(older)).await;
    let since = SyncPoint::end(epoch::read(&db).await.expect("an epoch").into(), 5);
    db.execute(COUNTER, args![OWNER]).await.expect("a counter");
    for id in [OWNER, Uuid::from_u128(2)] {
        db.execute(LIST, args![OWNER, id]).await.expect("a list");
    }
    db.close().await;

    let db = open(&database).await;
    let page = changes::list_after(&db, OWNER, Clock::system().now(), Some(since), 10).await.expect("it is valid");
    assert_eq!(page.changes.iter().map(Change::id).collect::<Vec<_>>(), [OWNER, Uuid::from_u128(2)]);
    db.close().await;
}

/// Creates a list and deletes it.
async fn create_and_delete(db: &Db, queue: &OwnerQueue) {
    let epoch = epoch::read(db).await.expect("an epoch").into();
    let (id, now) = (Clock::system().new_id(), Clock::system().now());
    let write = || {
        let options = WriteOptions { request: None, validate_only: false };
        ListWrite { owner: OWNER, actor: Actor::default(), now, options, epoch, encode: |_, _| Vec::new() }
    };
    let task_list = Some(TaskList { title: "Work".to_owned(), ..TaskList::default() });
    let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
    let title = request::list::create(request).expect("a valid title");
    lists::create(db, queue, write(), id, title, 10).await.expect("the list is created");
    lists::delete(db, queue, write(), Target::new(id, ""), None, now).await.expect("the list is deleted");
}

async fn tombstones_of_lists_are_bounded(database: TestDatabase) {
    const COUNT: &str = "update owners set tombstones = $2 where owner_id = $1";
    let (db, now) = (open(&database).await, Clock::system().now());
    let queue = OwnerQueue::new(Duration::from_secs(10), row_rate_limit());
    create_and_delete(&db, &queue).await;
    let since = SyncPoint::end(epoch::read(&db).await.expect("an epoch").into(), 1);
    for first in (1..MAX_DELETED_TASKS).step_by(500) {
        let mut insert = QueryBuilder::new("insert into removed_tasks (owner_id, id, change, remove_time)");
        let ids = first..(first + 500).min(MAX_DELETED_TASKS);
        insert.push_values(ids.map(|number| args![OWNER, Uuid::from_u128(number.unsigned_abs().into()), 3_i64, now]));
        let (sql, values) = insert.build();
        db.execute(sql, values).await.expect("tombstones");
    }
    db.execute(COUNT, args![OWNER, MAX_DELETED_TASKS]).await.expect("an update");
    changes::list_after(&db, OWNER, now, Some(since), 1).await.expect("the token is valid");

    for _ in 0..2 {
        create_and_delete(&db, &queue).await;
    }

    assert_eq!(count_rows(&db, OWNER).await, (0, MAX_DELETED_TASKS));
    let expired = changes::list_after(&db, OWNER, now, Some(since), 1).await.expect_err("a deletion is forgotten");
    assert_eq!(expired.reason(), ErrorReason::SyncTokenExpired);
    db.close().await;
}
