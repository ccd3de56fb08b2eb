//! The rows that an account occupies while it creates and deletes tasks within its limits.

use service_kit::{args, clock::Clock, db::Db, on_each_database, testing::TestDatabase};
use uuid::Uuid;

use super::*;
use crate::{
    model::{Target, sync::SyncPoint},
    request::options::RequestId,
    store::{
        changes::{self, Change},
        mutations::execute_within,
        transaction::NotCommitted,
    },
};

on_each_database!(
    deleted_tasks_and_tombstones_are_bounded,
    early_purge_of_a_task_with_a_long_history_takes_several_writes,
    early_purges_are_in_the_change_feed_or_expire_the_token,
    the_cost_of_a_write_at_the_limit_is_constant,
    stored_responses_are_bounded,
);

/// Maximum number of active tasks, and of deleted ones.
const MAX: i64 = 5;

/// Executes a write of an account with small limits. Returns the number of its statements.
async fn execute(db: &Db, owner: Uuid, write: Write, new_id: Uuid) -> u64 {
    let (max_tasks, max_deleted) = (MAX, MAX);
    let mutation =
        Mutation { max_tasks, max_deleted, ..mutation(owner, Clock::system().now(), vec![write], vec![new_id]) };
    let executed = db.write(|conn| {
        Box::pin(async move {
            let before = conn.statement_count();
            execute_within(conn, mutation).await?;
            Ok::<_, NotCommitted<_>>(conn.statement_count() - before)
        })
    });
    let Ok(statements) = executed.await else { panic!("the write was not executed") };
    statements
}

/// Creates a task and deletes it. Returns its id, and the number of statements.
async fn create_and_delete(db: &Db, owner: Uuid) -> (Uuid, [u64; 2]) {
    let id = Clock::system().new_id();
    let created = execute(db, owner, create(id), id).await;
    let delete = Write::Delete { target: Target::new(id, ""), allow_missing: false };
    (id, [created, execute(db, owner, delete, id).await])
}

/// Returns how many tasks and tombstones an owner has. Checks that the counters agree.
pub(crate) async fn count_rows(db: &Db, owner: Uuid) -> (i64, i64) {
    const COUNTED: &str = "select task_rows, tombstones from owners where owner_id = $1";
    const STORED: &str = "
        select (select count(*) from tasks where owner_id = $1), (select count(*) from removed_tasks where owner_id = $1)";
    let counted: Option<(i64, i64)> = db.fetch_optional(COUNTED, args![owner]).await.expect("a row");
    let stored = db.fetch_optional(STORED, args![owner]).await.expect("the rows are counted");
    assert_eq!(counted, stored);
    stored.expect("a row")
}

/// Returns the number of entries in the histories of an owner's tasks.
async fn count_entries(db: &Db, owner: Uuid) -> i64 {
    const COUNT: &str = "select count(*) from task_history where owner_id = $1";
    db.fetch_optional(COUNT, args![owner]).await.expect("the entries are counted").expect("a row")
}

async fn deleted_tasks_and_tombstones_are_bounded(database: TestDatabase) {
    let (db, owner, bob) = (open(&database).await, Uuid::from_u128(1), Uuid::from_u128(2));
    let kept = create_and_delete(&db, bob).await.0;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(create_and_delete(&db, owner).await.0);
    }
    assert_eq!(count_rows(&db, owner).await, (2 * MAX, MAX));
    assert_eq!(count_entries(&db, owner).await, 2 * 2 * MAX, "the history of purged tasks is deleted");
    let now = Clock::system().now();
    for (index, id) in ids.iter().enumerate() {
        let is_kept = index >= ids.len() - 10;
        assert_eq!(get(&db, owner, now, *id).await.is_ok(), is_kept, "the oldest are purged: {index}");
    }
    get(&db, bob, now, kept).await.expect("other accounts are not affected");
    db.close().await;
}

async fn early_purge_of_a_task_with_a_long_history_takes_several_writes(database: TestDatabase) {
    const LONG_HISTORY: &str = "
        with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 2500)
        insert into task_history (owner_id, change, task_id, field, change_time, position, old_value, new_value)
        select $1, -number, $2, 'title', 0, 0, '', '' from numbers";
    let (db, owner, now) = (open(&database).await, Uuid::from_u128(1), Clock::system().now());
    let oldest = create_and_delete(&db, owner).await.0;
    for _ in 1..2 * MAX {
        create_and_delete(&db, owner).await;
    }
    db.execute(LONG_HISTORY, args![owner, oldest]).await.expect("the entries are inserted");
    let id = Clock::system().new_id();
    execute(&db, owner, create(id), id).await;
    get(&db, owner, now, oldest).await.expect("its history is not deleted yet");
    assert_eq!(count_entries(&db, owner).await, 2 * 2 * MAX + 2500 - 2000 + 1);
    execute(&db, owner, Write::Delete { target: Target::new(id, ""), allow_missing: false }, id).await;
    get(&db, owner, now, oldest).await.expect_err("it is purged");
    assert_eq!(count_entries(&db, owner).await, 2 * 2 * MAX);
    db.close().await;
}

async fn early_purges_are_in_the_change_feed_or_expire_the_token(database: TestDatabase) {
    let (db, owner, now) = (open(&database).await, Uuid::from_u128(1), Clock::system().now());
    let first = create_and_delete(&db, owner).await.0;
    let since = changes::list_after(&db, owner, now, None, 100).await.expect("changes").since;
    let since = SyncPoint::end(since.epoch, 2);
    for _ in 0..11 {
        create_and_delete(&db, owner).await;
    }
    let page = changes::list_after(&db, owner, now, Some(since), 100).await.expect("the token is valid");
    let removed =
        page.changes.iter().any(|change| matches!(change, Change::Removed(tombstone) if tombstone.id == first));
    assert!(removed, "{:?}", page.changes);
    for _ in 0..30 {
        create_and_delete(&db, owner).await;
    }
    let expired = changes::list_after(&db, owner, now, Some(since), 100).await.expect_err("removals are forgotten");
    assert_eq!(expired.reason(), ErrorReason::SyncTokenExpired);
    db.close().await;
}

async fn the_cost_of_a_write_at_the_limit_is_constant(database: TestDatabase) {
    let (db, owner) = (open(&database).await, Uuid::from_u128(1));
    let mut costs = Vec::new();
    for _ in 0..40 {
        costs.push(create_and_delete(&db, owner).await.1);
    }
    assert!(costs[0].iter().all(|cost| *cost <= 8), "{costs:?}");
    assert!(costs[20][0] <= costs[1][0] + 7, "{costs:?}");
    assert!(costs[20..].iter().all(|cost| *cost == costs[20]), "{costs:?}");
    db.close().await;
}

async fn stored_responses_are_bounded(database: TestDatabase) {
    const STORED: &str = "select count(*), coalesce(sum(length(answer)), 0)::bigint from requests";
    const STORED_IN_SQLITE: &str = "select count(*), sum(length(answer)) from requests";
    let (db, owner, now) = (open(&database).await, Uuid::from_u128(1), Clock::system().now());
    let execute = async |number: u128| {
        let queue = OwnerQueue::new(Duration::from_secs(10), row_rate_limit());
        let id = Clock::system().new_id();
        let request = Some(RequestId { id: Uuid::from_u128(number), hash: String::new() });
        let options = WriteOptions { request, validate_only: false };
        // A megabyte, and a third more in base64.
        let encode = Arc::new(|_: &[Option<TaskRow>]| vec![0; 1 << 20]);
        let mutation = Mutation { options, encode, ..mutation(owner, now, vec![create(id)], vec![id]) };
        matches!(mutations::execute(&db, &queue, mutation).await, Ok(Outcome::Replayed(_)))
    };
    for number in 1..=20 {
        assert!(!execute(number).await);
    }
    let sql = if db.engine() == service_kit::db::Engine::Sqlite { STORED_IN_SQLITE } else { STORED };
    let (count, bytes): (i64, i64) = db.fetch_optional(sql, args![]).await.expect("a row").expect("a row");
    assert!(count == 11 && bytes <= 16 << 20, "{count} responses with {bytes} bytes");
    assert!(execute(20).await && execute(10).await, "the latest responses are replayed");
    assert!(!execute(9).await, "older ones have been forgotten");
    db.close().await;
}
