//! Both engines sort like a sort in memory, and each page begins where the previous one ends.

use std::cmp::Ordering;

use proptest::{collection::vec, prelude::*, sample::select};
use service_kit::{
    clock::Timestamp,
    db::{Db, QueryBuilder},
    on_each_database,
    testing::TestDatabase,
};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{Column, Cursor, Direction, OrderBy, SortFields};
use crate::model::filter::{
    Value as CursorValue,
    tests::row::{NOW, Row, fill, open, rows, try_all},
};

on_each_database! {
    any_order_matches_a_sort_in_memory,
}

const CASES: u32 = 128;

#[test]
fn an_order_has_up_to_three_fields_and_directions() {
    for (text, expected) in [
        ("", ""),
        (" \t", ""),
        ("title", "title"),
        (" due_time ,\tpriority  desc ", "due_time, priority desc"),
        ("rank asc,create_time desc,update_time", "rank, create_time desc, update_time"),
    ] {
        let order = OrderBy::parse(text).expect(text);
        assert_eq!(order.to_string(), expected);
        assert_eq!(OrderBy::parse(expected), Ok(order));
    }
}

#[test]
fn invalid_orders_are_refused() {
    let names = "must be title, create_time, update_time, due_time, priority or rank";
    let first = format!("field 1: {names}");
    let second = format!("field 2: {names}");
    for (text, expected) in [
        ("id", &first[..]),
        ("Title", &first),
        (",", &first),
        ("title,", &second),
        ("title,,rank", &second),
        ("title DESC", "title: must be followed by asc, desc or a comma"),
        ("title desc asc", "title: must be followed by asc, desc or a comma"),
        ("title rank", "title: must be followed by asc, desc or a comma"),
        ("title, title desc", "title: is duplicated"),
        ("title, rank, priority, due_time", "has more than 3 fields"),
        (&"title,".repeat(100_000), "title: is duplicated"),
    ] {
        assert_eq!(OrderBy::parse(text).expect_err(text), expected);
    }
}

#[test]
fn the_encoding_of_cursors_is_stable() {
    let task = SortFields {
        id: Uuid::from_u128(0x0102),
        title: "Ä",
        create_time: NOW,
        update_time: NOW,
        due_at: None,
        priority: 3,
        rank: "10",
    };
    let id = [vec![0; 14], vec![1, 2]].concat();
    for (text, expected) in [
        ("", &b""[..]),
        ("title, rank", b"\xc3\x84\x0010\0"),
        ("priority desc", b"\0\0\0\0\0\0\0\x03"),
        ("due_time", b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("due_time desc", b"\x80\0\0\0\0\0\0\x01"),
    ] {
        let order = OrderBy::parse(text).expect(text);
        let bytes = encode(&order, task);
        assert_eq!(bytes, [expected, &id].concat(), "{text}");
        let cursor = order.decode(&bytes).expect("it is a cursor");
        assert_eq!(encode(&order, sort_fields(&order, &cursor)), bytes);
        assert_eq!(order.decode(&bytes[1..]), None);
        assert_eq!(order.decode(&[&bytes[..], &[0]].concat()), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cursor_has_only_one_encoding(order in order(), bytes in vec(any::<u8>(), 0..60)) {
        if let Some(cursor) = order.decode(&bytes) {
            prop_assert_eq!(encode(&order, sort_fields(&order, &cursor)), bytes);
        }
    }
}

fn encode(order: &OrderBy, task: SortFields<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    order.encode_cursor(task, &mut bytes);
    bytes
}

/// Returns a task that has this cursor.
fn sort_fields<'a>(order: &OrderBy, cursor: &'a Cursor) -> SortFields<'a> {
    let mut task = SortFields {
        id: cursor.id(),
        title: "",
        create_time: NOW,
        update_time: NOW,
        due_at: None,
        priority: 0,
        rank: "",
    };
    for ((column, _), value) in order.0.iter().zip(&cursor.0) {
        match (column, value) {
            (Column::Title, CursorValue::Text(text)) => task.title = text,
            (Column::Rank, CursorValue::Text(text)) => task.rank = text,
            (Column::CreateTime, CursorValue::Int(time)) => task.create_time = Timestamp::from_micros(*time),
            (Column::UpdateTime, CursorValue::Int(time)) => task.update_time = Timestamp::from_micros(*time),
            (Column::DueTime, CursorValue::Int(time)) => task.due_at = Some(Timestamp::from_micros(*time)),
            (Column::Priority, CursorValue::Int(priority)) => task.priority = *priority,
            _ => panic!("{value:?} is not a value of {column:?}"),
        }
    }
    task
}

fn order() -> impl Strategy<Value = OrderBy> {
    let columns = Just(Column::ALL.to_vec()).prop_shuffle();
    let directions = vec(select(vec![Direction::Ascending, Direction::Descending]), 0..=3);
    (columns, directions).prop_map(|(columns, directions)| OrderBy(columns.into_iter().zip(directions).collect()))
}

async fn list(db: &Db, order: &OrderBy, after: Option<&Cursor>, limit: i64) -> Vec<Uuid> {
    let mut sql = QueryBuilder::new("select id from listed where true");
    if let Some(cursor) = after {
        sql.push(" and ");
        order.push_after(&mut sql, db.engine(), cursor);
    }
    order.push_order(&mut sql, db.engine());
    sql.push(" limit ").push_bind(limit);
    let (sql, values) = sql.build();
    db.fetch_all(sql, values).await.unwrap_or_else(|error| panic!("{order}: {error}"))
}

/// Compares as the documentation says.
fn compare(order: &OrderBy, left: &Row, right: &Row) -> Ordering {
    for (column, direction) in &order.0 {
        let ordering = match column {
            Column::Title => left.title.chars().cmp(right.title.chars()),
            Column::CreateTime => left.create_time.cmp(&right.create_time),
            Column::UpdateTime => left.update_time.cmp(&right.update_time),
            Column::DueTime => match (left.due_at, right.due_at) {
                (Some(left), Some(right)) => left.cmp(&right),
                // Tasks without a due time come last in both directions.
                (left, right) if left.is_none() != right.is_none() => return left.is_none().cmp(&right.is_none()),
                _ => Ordering::Equal,
            },
            Column::Priority => left.priority.cmp(&right.priority),
            Column::Rank => left.rank.as_bytes().cmp(right.rank.as_bytes()),
        };
        let ordering = if *direction == Direction::Descending { ordering.reverse() } else { ordering };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    if order.0.is_empty() { right.id.cmp(&left.id) } else { left.id.cmp(&right.id) }
}

async fn any_order_matches_a_sort_in_memory(database: TestDatabase) {
    let db = open(&database).await;
    try_all(CASES, &(rows(24), order(), 1..=5_usize), |(mut rows, order, page_size)| {
        Handle::current().block_on(fill(&db, rows.clone()));
        rows.sort_by(|left, right| compare(&order, left, right));
        let sorted: Vec<_> = rows.iter().map(|row| row.id).collect();
        let found = Handle::current().block_on(list(&db, &order, None, 100));
        prop_assert_eq!(&found, &sorted);

        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let limit = i64::try_from(page_size).expect("a small number");
            let page = Handle::current().block_on(list(&db, &order, cursor.as_ref(), limit));
            let Some(last) = page.last() else { break };
            let last = rows.iter().find(|row| row.id == *last).expect("it is one of the rows");
            cursor = order.decode(&encode(&order, last.sort_fields()));
            listed.extend(page);
            prop_assert!(listed.len() <= sorted.len(), "a task is on two pages");
        }
        prop_assert_eq!(listed, sorted);
        Ok(())
    });
    db.close().await;
}
