//! Tasks as far as a list looks at them, and a table that holds them.

use std::time::Duration;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error, Migrate, PoolArgs, Value},
    testing::TestDatabase,
};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::{
    MIGRATIONS,
    model::{fold::fold, order::SortFields},
};

/// 2026-11-30T10:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_796_032_800);

/// Characters that mean something to SQL, to LIKE or to the filter, and letters whose case or spelling is not simple.
pub(super) const PIECES: [&str; 30] = [
    "milk", "Milk", "MILK", "a", "Z", " ", "%", "_", "\\", "'", "\"", ";--", "*", "(", "AND", "é", "e\u{301}", "É",
    "I", "i", "İ", "ı", "ß", "SS", "ẞ", "Σ", "σ", "ς", "買う", "🛒",
];

/// The days of due dates, and the ends of these days in hours from [`NOW`].
pub(super) const DAYS: [(&str, i64); 3] = [("0001-01-01", -9_000_000), ("2026-11-29", -10), ("2026-11-30", 14)];

pub(super) const TIME_ZONES: [&str; 4] = ["", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"];

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) list_id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
    pub(crate) title: String,
    pub(crate) notes: String,
    pub(crate) priority: i64,
    pub(crate) due_date: Option<&'static str>,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) time_zone: &'static str,
    pub(crate) labels: Vec<String>,
    pub(crate) rank: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) complete_time: Option<Timestamp>,
    pub(crate) series_id: Option<Uuid>,
}

impl Row {
    pub(crate) fn sort_fields(&self) -> SortFields<'_> {
        SortFields {
            id: self.id,
            title: &self.title,
            create_time: self.create_time,
            update_time: self.update_time,
            due_at: self.due_at,
            priority: self.priority,
            rank: &self.rank,
        }
    }
}

pub(super) fn text() -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..4).prop_map(|pieces| pieces.concat())
}

pub(super) fn id() -> impl Strategy<Value = Uuid> {
    select(vec![1, 2, 3, u128::MAX]).prop_map(Uuid::from_u128)
}

/// An instant close to [`NOW`].
pub(super) fn instant() -> impl Strategy<Value = Timestamp> {
    select(vec![-1, 0, 1, 1_000_000]).prop_map(|offset| Timestamp::from_micros(NOW.as_micros() + offset))
}

/// Tasks of which many are alike, so that much is found and much comes down to the id.
pub(crate) fn rows(count: usize) -> impl Strategy<Value = Vec<Row>> {
    vec(row(), 0..count).prop_map(|mut rows| {
        for (row, id) in rows.iter_mut().zip(1..) {
            row.id = Uuid::from_u128(id);
        }
        rows
    })
}

fn row() -> impl Strategy<Value = Row> {
    let due = prop_oneof![
        Just((None, None)),
        instant().prop_map(|at| (None, Some(at))),
        select(&DAYS[..])
            .prop_map(|(day, hours)| { (Some(day), Some(Timestamp::from_seconds(NOW.as_seconds() + hours * 3600))) }),
    ];
    let notes = vec(prop_oneof![text(), Just("\n".to_owned())], 0..3).prop_map(|parts| parts.concat());
    let texts = (text(), notes, vec(select(&PIECES[..]).prop_map(str::to_owned), 0..3), "[0-9]{1,3}");
    let times = (instant(), instant(), option::of(instant()));
    (id(), (option::of(id()), option::of(id())), texts, 0_i64..=3, due, select(&TIME_ZONES[..]), times).prop_map(
        |(
            list_id,
            (parent_id, series_id),
            (title, notes, labels, rank),
            priority,
            (due_date, due_at),
            time_zone,
            times,
        )| {
            let (create_time, update_time, complete_time) = times;
            let id = Uuid::nil();
            Row {
                id,
                list_id,
                parent_id,
                title,
                notes,
                priority,
                due_date,
                due_at,
                time_zone,
                labels,
                rank,
                create_time,
                update_time,
                complete_time,
                series_id,
            }
        },
    )
}

/// The database of a service, with a table for rows beside its own.
pub(crate) async fn open(database: &TestDatabase) -> Db {
    const CREATE: &str = "create table listed (
        id uuid not null primary key, list_id uuid not null, parent_id uuid, title text not null, notes text not null,
        search text not null, priority bigint not null, due_date text, due_at bigint, time_zone text not null,
        labels text not null, label_keys text not null, rank text not null, create_time bigint not null, update_time bigint not null,
        complete_time bigint, recurrence text)";
    let args =
        PoolArgs { database_connections: 2, database_timeout: Duration::from_secs(10), database_direct_url: None };
    let db = Db::open(&database.parsed_url(), "task", &MIGRATIONS, Migrate::Always, &args).await;
    let db = db.expect("a test database opens");
    db.execute(CREATE, args![]).await.expect("the table is new");
    db
}

/// Puts these rows in the place of those that are there.
pub(crate) async fn fill(db: &Db, rows: Vec<Row>) {
    const INSERT: &str = "insert into listed (id, list_id, parent_id, title, notes, search, priority, due_date, due_at,
            time_zone, labels, label_keys, rank, create_time, update_time, complete_time, recurrence)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    let filled = db.write(|conn| {
        Box::pin(async move {
            conn.execute("delete from listed", args![]).await?;
            for row in rows {
                conn.execute(INSERT, values(&row)).await?;
            }
            Ok::<_, Error>(())
        })
    });
    filled.await.expect("the rows are good");
}

fn values(row: &Row) -> Vec<Value> {
    let labels = row.labels.iter().fold(String::new(), |labels, label| format!("{labels}\n{label}"));
    let labels = if labels.is_empty() { labels } else { format!("{labels}\n") };
    args![
        row.id,
        row.list_id,
        row.parent_id,
        &row.title,
        &row.notes,
        format!("{}\n{}", fold(&row.title), fold(&row.notes)),
        row.priority,
        row.due_date,
        row.due_at,
        row.time_zone,
        &labels,
        fold(&labels),
        &row.rank,
        row.create_time,
        row.update_time,
        row.complete_time,
        row.series_id.map(|id| format!("{}0000000001", id.simple())),
    ]
}

/// Runs a test with many inputs, and tells the simplest with which it fails.
pub(crate) fn try_all<S: Strategy>(cases: u32, inputs: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    match block_in_place(|| TestRunner::new(config).run(inputs, test)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{reason}\nwith {input:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
