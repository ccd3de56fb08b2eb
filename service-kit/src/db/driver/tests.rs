use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, FromRow, QueryBuilder, Row, Statement, error::ErrorKind,
    query, query_as, query_scalar,
};
use tempfile::{TempDir, tempdir};
use uuid::Uuid;

use super::*;

/// A connection to a new file, and the folder that goes with it.
async fn connect() -> (RusqliteConnection, TempDir) {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("test.db");
    std::fs::File::create(&path).expect("a file");
    let mut connection = RusqliteOptions::new(&path).connect().await.expect("it opens");
    let table = "create table items (id blob primary key, name text not null, done boolean, number bigint unique)";
    connection.execute(table).await.expect("the table is made");
    (connection, folder)
}

#[derive(Debug, PartialEq, FromRow)]
struct Item {
    number: Option<i64>,
    name: String,
    id: Uuid,
    done: Option<bool>,
}

const INSERT: &str = "insert into items (number, done, name, id) values ($4, $3, $2, $1)";
const SELECT: &str = "select id, name, done, number from items order by number";

async fn insert(connection: &mut RusqliteConnection, item: &Item) -> sqlx::Result<u64> {
    let insert = query(INSERT).bind(item.id).bind(&item.name).bind(item.done).bind(item.number);
    insert.execute(connection).await.map(|done| done.rows_affected())
}

fn item(number: i64) -> Item {
    Item { number: Some(number), name: format!("item {number}"), id: Uuid::from_u64_pair(1, 2), done: Some(true) }
}

#[tokio::test]
async fn what_is_written_is_read_as_it_was() {
    let (mut connection, _folder) = connect().await;
    let strange = "'; drop table items; -- % _ \\ \u{0}\n\u{1f600}".to_owned();
    let items = [
        Item { number: None, name: String::new(), id: Uuid::nil(), done: None },
        Item { number: Some(i64::MIN), name: strange, id: Uuid::max(), done: Some(false) },
        item(i64::MAX),
    ];
    for item in &items {
        assert_eq!(insert(&mut connection, item).await.expect("inserted"), 1);
    }
    let by_name: Vec<Item> = query_as(SELECT).fetch_all(&mut connection).await.expect("read");
    assert_eq!(by_name, items);
    let by_place: Vec<(Uuid, String, Option<bool>, Option<i64>)> =
        query_as(SELECT).fetch_all(&mut connection).await.expect("read");
    assert!(by_place.iter().zip(&items).all(|(row, item)| (row.0, row.3) == (item.id, item.number)));
}

#[tokio::test]
async fn values_are_bound_by_number_or_in_order() {
    let (mut connection, _folder) = connect().await;
    let numbered = query_scalar("select $2 || $1 || $2").bind("a").bind("b".to_owned());
    assert_eq!(numbered.fetch_one(&mut connection).await.map(|text: String| text).ok().as_deref(), Some("bab"));
    let mut built = QueryBuilder::<Rusqlite>::new("select ");
    built.push_bind("a").push(" || ").push_bind("b");
    assert_eq!(built.build_query_scalar().fetch_one(&mut connection).await.ok(), Some("ab".to_owned()));
}

#[tokio::test]
async fn a_value_that_is_missing_or_of_another_type_is_an_error() {
    let (mut connection, _folder) = connect().await;
    let missing = query("select $2").bind(1_i64).fetch_optional(&mut connection).await;
    assert!(matches!(missing, Err(sqlx::Error::Encode(_))), "{missing:?}");
    for (sql, fits) in [("select 1", true), ("select 'one'", false), ("select x'01'", false), ("select 1.5", false)] {
        let number: sqlx::Result<i64> = query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await;
        assert_eq!(number.is_ok(), fits, "{sql}: {number:?}");
    }
    let row = query("select null as missing").fetch_one(&mut connection).await.expect("a row");
    assert_eq!(row.try_get::<Option<i64>, _>("missing").ok(), Some(None));
    assert!(row.try_get::<i64, _>("missing").is_err());
    assert!(matches!(row.try_get::<i64, _>("other"), Err(sqlx::Error::ColumnNotFound(_))));
    assert!(matches!(row.try_get::<i64, _>(1), Err(sqlx::Error::ColumnIndexOutOfBounds { .. })));
}

#[tokio::test]
async fn an_error_tells_what_kind_it_is() {
    let (mut connection, _folder) = connect().await;
    insert(&mut connection, &item(1)).await.expect("inserted");
    let twice = insert(&mut connection, &item(2)).await.expect_err("the key is taken");
    let same_number = insert(&mut connection, &Item { id: Uuid::nil(), ..item(1) }).await.expect_err("it is taken");
    let missing = query("insert into items (id) values (x'00')").execute(&mut connection).await;
    let missing = missing.expect_err("a name is needed");
    let nonsense = connection.execute("selekt 1").await.expect_err("no SQL");
    let seen = [twice, same_number, missing, nonsense].map(|error| {
        let error = error.into_database_error().expect("it comes from the database");
        (error.kind(), error.code().map(std::borrow::Cow::into_owned))
    });
    let expected = [
        (ErrorKind::UniqueViolation, "1555"),
        (ErrorKind::UniqueViolation, "2067"),
        (ErrorKind::NotNullViolation, "1299"),
        (ErrorKind::Other, "1"),
    ];
    for ((kind, code), (expected_kind, expected_code)) in seen.into_iter().zip(expected) {
        assert_eq!(format!("{kind:?} {code:?}"), format!("{expected_kind:?} {:?}", Some(expected_code)));
    }
}

#[tokio::test]
async fn only_what_was_written_counts_as_affected() {
    let (mut connection, _folder) = connect().await;
    for number in 1..=3_i64 {
        let id = Uuid::from_u64_pair(0, number.unsigned_abs());
        insert(&mut connection, &Item { id, ..item(number) }).await.expect("inserted");
    }
    let update = "update items set done = false where number > $1";
    let updated = query(update).bind(1_i64).execute(&mut connection).await.expect("updated");
    let read = query(SELECT).execute(&mut connection).await.expect("read");
    let none = query(update).bind(9_i64).execute(&mut connection).await.expect("updated");
    assert_eq!([updated, read, none].map(|done| done.rows_affected()), [2, 0, 0]);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_takes_no_effect_and_its_outer_one_does() {
    let (mut connection, _folder) = connect().await;
    let mut outer = connection.begin().await.expect("begun");
    insert(&mut outer, &item(1)).await.expect("inserted");
    let mut inner = outer.begin().await.expect("begun");
    insert(&mut inner, &Item { id: Uuid::nil(), ..item(2) }).await.expect("inserted");
    drop(inner);
    outer.commit().await.expect("committed");
    let alone = connection.begin_with("begin immediate").await.expect("begun");
    alone.rollback().await.expect("rolled back");
    assert!(!connection.is_in_transaction());
    let items: Vec<Item> = query_as(SELECT).fetch_all(&mut connection).await.expect("read");
    assert_eq!(items, [item(1)]);
}

#[tokio::test]
async fn a_statement_can_be_looked_at_before_it_is_carried_out() {
    let (mut connection, _folder) = connect().await;
    insert(&mut connection, &item(7)).await.expect("inserted");
    let sql = sqlx::SqlStr::from_static("select name, number from items where number = $1");
    let statement = connection.prepare(sql).await.expect("it is SQL");
    assert_eq!(statement.columns().iter().map(sqlx::Column::name).collect::<Vec<_>>(), ["name", "number"]);
    assert!(matches!(statement.parameters(), Some(sqlx::Either::Right(1))));
    let found = statement.query().bind(7_i64).fetch_one(&mut connection).await.expect("a row");
    assert_eq!(found.get::<&str, _>(0), "item 7");
}
