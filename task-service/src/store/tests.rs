//! Writes that violate a constraint, which no request can cause, the page token key, and the migrations.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::join_all;
use service_kit::{
    clock::{Clock, Timestamp},
    db::{Db, Migrate, PoolArgs},
    on_each_database, random,
    rate_limit::RateLimit,
    status::ApiError,
    testing::{TestDatabase, assert_compatible, assert_unchanged},
};
use sqlx::migrate::Migrator;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{CreateTaskRequest, Recurrence, Task},
};
use uuid::Uuid;

use super::{
    epoch,
    mutations::{self, Mutation},
    owner_queue::OwnerQueue,
    page_token_key,
    tasks::get,
    transaction::Outcome,
};
use crate::{
    MIGRATIONS,
    model::{TaskRow, mutation::Actor, write::Write},
    request::{options::WriteOptions, validator::RequestValidator, write},
};

mod disabled_owners;
mod lists;
mod reminders;
mod statements;
pub(crate) mod storage;

on_each_database!(
    a_write_that_violates_a_constraint_fails_alone,
    an_occurrence_of_a_series_exists_once,
    replicas_share_the_page_token_key,
    earlier_programs_can_use_the_tables,
);

/// Opens the database of a service that has just started.
pub(crate) async fn open(database: &TestDatabase) -> Db {
    open_with(database, &MIGRATIONS).await
}

pub(crate) async fn open_with(database: &TestDatabase, migrations: &Migrator) -> Db {
    let args =
        PoolArgs { database_connections: 10, database_timeout: Duration::from_secs(60), database_direct_url: None };
    let db = Db::open(&database.parsed_url(), "task", migrations, Migrate::Always, &args).await;
    let db = db.expect("a test database opens");
    epoch::open(&db, random::id()).await.expect("there is an epoch");
    db
}

/// Returns a mutation at the instant `now`. Tasks that it deletes are purged an hour later.
fn mutation(owner: Uuid, now: Timestamp, writes: Vec<Write>, new_ids: Vec<Uuid>) -> Mutation {
    Mutation {
        owner,
        actor: Actor::default(),
        now,
        purge_time: now + Duration::from_secs(3600),
        max_tasks: 10_000,
        max_deleted: 10_000,
        options: WriteOptions { request: None, validate_only: false },
        writes,
        prefixes: Vec::new(),
        new_ids,
        encode: Arc::new(|_| Vec::new()),
    }
}

/// Executes a write at the instant `now`, in a separate queue, so that writes of one owner are concurrent in the
/// database.
pub(crate) async fn execute_at(
    db: &Db,
    owner: Uuid,
    now: Timestamp,
    write: Write,
    new_id: Uuid,
) -> Result<TaskRow, ApiError> {
    let queue = OwnerQueue::new(Duration::from_secs(10), row_rate_limit());
    match mutations::execute(db, &queue, mutation(owner, now, vec![write], vec![new_id])).await? {
        Outcome::Done(mut rows) => Ok(rows.remove(0).expect("there is a task")),
        Outcome::Replayed(_) => unreachable!("the request has no id"),
    }
}

/// Returns a limit that is never reached.
pub(crate) fn row_rate_limit() -> Arc<RateLimit> {
    static LIMIT: LazyLock<Arc<RateLimit>> = LazyLock::new(|| {
        let rate = "1000000+1000000/s".parse().expect("a rate");
        Arc::new(RateLimit::new(rate, Clock::system()))
    });
    Arc::clone(&LIMIT)
}

/// Creates a task with this id.
pub(crate) async fn create_with_id(db: &Db, owner: Uuid, id: Uuid) -> Result<TaskRow, ApiError> {
    execute_at(db, owner, Clock::system().now(), create(id), id).await
}

/// Returns the creation of a task, whose title contains its id.
pub(crate) fn create(id: Uuid) -> Write {
    let task = Task { title: id.to_string(), ..Task::default() };
    parse(CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() })
}

fn parse(request: CreateTaskRequest) -> Write {
    let mut writes = write::parse(|validator: &mut RequestValidator<'_>| write::create(request, validator))
        .expect("the task is valid");
    writes.remove(0)
}

async fn a_write_that_violates_a_constraint_fails_alone(database: TestDatabase) {
    let (db, clock) = (open(&database).await, Clock::system());
    let owner = clock.new_id();
    let used_id = clock.new_id();
    create_with_id(&db, owner, used_id).await.expect("the id is unused");

    let ids: Vec<_> = (0..60).map(|index| if index % 20 == 10 { used_id } else { clock.new_id() }).collect();
    let outcomes = join_all(ids.iter().map(|id| create_with_id(&db, owner, *id))).await;

    for (id, outcome) in ids.iter().zip(outcomes) {
        match outcome {
            Ok(row) => assert_eq!((row.id, *id != used_id), (*id, true)),
            Err(error) => assert_eq!((error.reason(), *id), (ErrorReason::Internal, used_id)),
        }
        get(&db, owner, clock.now(), *id).await.expect("the task exists");
    }
    db.close().await;
}

async fn an_occurrence_of_a_series_exists_once(database: TestDatabase) {
    let (db, clock) = (open(&database).await, Clock::system());
    let (owner, series) = (clock.new_id(), clock.new_id());
    let recurring = |id: Uuid| {
        let recurrence = Some(Recurrence { rrule: "FREQ=DAILY".to_owned(), ..Recurrence::default() });
        let (title, due_date) = (id.to_string(), "2090-01-31".to_owned());
        let task = Some(Task { title, due_date, recurrence, ..Task::default() });
        parse(CreateTaskRequest { task, task_id: id.to_string(), ..CreateTaskRequest::default() })
    };
    let (first, second) = (clock.new_id(), clock.new_id());
    // The series of a new task has the id that the server has chosen.
    execute_at(&db, owner, clock.now(), recurring(first), series).await.expect("the first occurrence");
    let refused = execute_at(&db, owner, clock.now(), recurring(second), series).await;
    assert_eq!(refused.map(|task| task.id).map_err(|error| error.reason()), Err(ErrorReason::Internal));
    execute_at(&db, clock.new_id(), clock.now(), recurring(second), series).await.expect("of another owner");
    db.close().await;
}

async fn replicas_share_the_page_token_key(database: TestDatabase) {
    let (first, second) = (open(&database).await, open(&database).await);
    let (first_key, second_key) = tokio::join!(page_token_key(&first, &[1; 32]), page_token_key(&second, &[2; 32]));
    let key = first_key.expect("there is a key");
    assert_eq!(second_key.expect("there is a key"), key);
    assert_eq!(page_token_key(&first, &[3; 32]).await.expect("there is a key"), key);
    first.close().await;
    second.close().await;
}

async fn earlier_programs_can_use_the_tables(database: TestDatabase) {
    let db = open(&database).await;
    assert_compatible(&db, &MIGRATIONS, 7).await;
    db.close().await;
}

#[test]
fn migrations_that_have_landed_are_never_edited() {
    assert_unchanged(
        &MIGRATIONS,
        &[
            (1, "0f8a1d9b2c80b02b7e4de10596baff5b"),
            (2, "02a1ecce6ca5aca4154a47d22d6cff05"),
            (3, "e65724f3d8a838d2833c5211057a5c22"),
            (4, "469bd0daf87b8f6b2d5bb55b8f8868a5"),
            (5, "37f47d943eb4b5a754370620e4c6b3aa"),
            (6, "f9f781801b9392978bc6465081289ddd"),
            (7, "da3b42a879fb6dfd37ed316007ff8bf4"),
            (8, "99d93b9d5d15c2399d8fc9781f5bc758"),
            (9, "ece8557b38ea53f5c33624d33f723f87"),
            (10, "98232045789995b74f7ee51b245a43e9"),
            (11, "4d7229ce82fdb7772048c4c106daab7c"),
            (12, "1e8d43a673a3b5065c1d973c28921092"),
            (13, "d8a8e6da9a8486cf6299f17f32a0e6a5"),
            (14, "b3b216fe99b836f7deb39b59d2bcab12"),
        ],
    );
}
