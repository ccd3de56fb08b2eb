//! Both engines return the tasks that a filter matches in memory.

use proptest::{collection::vec, prelude::*};
use service_kit::{
    clock::Timestamp,
    db::{Db, QueryBuilder},
    filter::MAX_BYTES,
    on_each_database,
    testing::TestDatabase,
};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{
    super::{Filter, SearchColumn, sql::push_filter},
    matches::matches,
    row::{NOW, Row, fill, open, rows, try_all},
    strategy::filter,
};

on_each_database! {
    a_filter_returns_the_tasks_that_it_matches,
    not_returns_tasks_whose_field_is_not_set,
    words_are_found_in_any_case,
    filters_at_the_limits_are_executed,
}

/// Each case has several filters.
const CASES: u32 = 96;

async fn find(db: &Db, filter: &Filter) -> Vec<Uuid> {
    let mut sql = QueryBuilder::new("select id from listed where ");
    push_filter(&mut sql, filter, db.engine(), NOW, SearchColumn::Full);
    sql.push(" and id is not null order by id");
    let (sql, values) = sql.build();
    db.fetch_all(sql, values).await.unwrap_or_else(|error| panic!("{filter}: {error}"))
}

/// Returns the titles of the rows that a filter returns, after checking that it matches the same rows in memory.
async fn titles<'a>(db: &Db, rows: &'a [Row], filter: &str) -> Vec<&'a str> {
    let filter = Filter::parse(filter).expect(filter);
    let matching = rows.iter().filter(|row| matches(&filter, row, NOW));
    let (ids, titles): (Vec<_>, Vec<_>) = matching.map(|row| (row.id, &row.title[..])).unzip();
    assert_eq!(find(db, &filter).await, ids, "{filter}");
    titles
}

/// Returns a new task that has only a title.
fn row(number: u128, title: &str) -> Row {
    Row {
        id: Uuid::from_u128(number),
        list_id: Uuid::from_u128(1),
        parent_id: None,
        title: title.to_owned(),
        notes: String::new(),
        priority: 0,
        due_date: None,
        due_at: None,
        time_zone: "",
        labels: Vec::new(),
        rank: "1".to_owned(),
        create_time: NOW,
        update_time: NOW,
        complete_time: None,
        series_id: None,
    }
}

async fn a_filter_returns_the_tasks_that_it_matches(database: TestDatabase) {
    let db = open(&database).await;
    try_all(CASES, &(rows(16), vec(filter(), 1..24)), |(rows, filters)| {
        Handle::current().block_on(fill(&db, rows.clone()));
        for text in filters {
            let filter = Filter::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            prop_assert_eq!(Filter::parse_unbounded(&filter.to_string()), Ok(filter.clone()));
            let matching = rows.iter().filter(|row| matches(&filter, row, NOW));
            let expected: Vec<_> = matching.map(|row| row.id).collect();
            let found = Handle::current().block_on(find(&db, &filter));
            prop_assert_eq!(found, expected, "{}", text);
        }
        Ok(())
    });
    db.close().await;
}

async fn not_returns_tasks_whose_field_is_not_set(database: TestDatabase) {
    let db = open(&database).await;
    let at = |hours: i64| Some(Timestamp::from_seconds(NOW.as_seconds() + hours * 3600));
    let rows = [
        row(1, "bare"),
        Row { due_at: at(-1), priority: 1, ..row(2, "late") },
        Row { due_at: at(14), due_date: Some("2026-11-30"), time_zone: "UTC", ..row(3, "today") },
        Row { complete_time: at(-2), priority: 3, labels: vec!["home".to_owned()], ..row(4, "done") },
        Row { parent_id: Some(Uuid::from_u128(1)), labels: vec!["homework".to_owned()], ..row(5, "child") },
    ];
    fill(&db, rows.to_vec()).await;
    let nobody = Uuid::nil();
    for (filter, expected) in [
        ("", &["bare", "late", "today", "done", "child"][..]),
        ("due_time < now()", &["late"]),
        ("NOT due_time < now()", &["bare", "today", "done", "child"]),
        ("due_time >= now()", &["today"]),
        ("due_time != now()", &["late", "today"]),
        ("due_time:*", &["late", "today"]),
        ("NOT due_time:*", &["bare", "done", "child"]),
        ("due_date:*", &["today"]),
        ("due_date != 2026-11-30", &[]),
        ("-due_date = 2026-11-30", &["bare", "late", "done", "child"]),
        ("complete_time > now() OR complete_time < now()", &["done"]),
        ("-complete_time < now()", &["bare", "late", "today", "child"]),
        ("state = OPEN", &["bare", "late", "today", "child"]),
        ("state != OPEN", &["done"]),
        ("priority < MEDIUM", &["bare", "late", "today", "child"]),
        ("priority:*", &["late", "done"]),
        ("parent_id:*", &["child"]),
        ("parent_id = ''", &["bare", "late", "today", "done"]),
        (&format!("parent_id != {nobody}"), &["bare", "late", "today", "done", "child"]),
        (&format!("parent_id = {nobody}"), &[]),
        ("time_zone != UTC", &["bare", "late", "done", "child"]),
        ("time_zone = ''", &["bare", "late", "done", "child"]),
        ("time_zone:uT", &["today"]),
        ("labels:home", &["done"]),
        ("-labels:home", &["bare", "late", "today", "child"]),
        ("labels:*", &["done", "child"]),
        ("labels:home OR labels:homework priority = HIGH", &["done"]),
        ("title >= d", &["late", "today", "done"]),
        ("title = Bare", &[]),
    ] {
        assert_eq!(titles(&db, &rows, filter).await, expected, "{filter}");
    }
    db.close().await;
}

async fn words_are_found_in_any_case(database: TestDatabase) {
    let db = open(&database).await;
    let rows = [
        Row { notes: "a\nb".to_owned(), ..row(1, "Buy MILK") },
        Row { notes: "100% milk_".to_owned(), ..row(2, "ΟΔΟΣ") },
        row(3, "Straße E\u{301}"),
        row(4, "it's \"so\"; -- \\ drop"),
    ];
    fill(&db, rows.to_vec()).await;
    for (filter, expected) in [
        ("mILk", &[0, 1][..]),
        ("title:milk", &[0]),
        ("notes:milk", &[1]),
        ("buy milk", &[0]),
        ("-milk", &[2, 3]),
        ("'MILK\na'", &[]),
        ("'A\nB'", &[0]),
        ("notes:'\n'", &[0]),
        ("title:'\n'", &[]),
        ("'%'", &[1]),
        ("_", &[1]),
        ("οδος", &[1]),
        ("ΟΔΟΣ", &[1]),
        ("δοσ", &[1]),
        ("STRASSE", &[2]),
        ("straẞe", &[2]),
        ("é", &[2]),
        ("e\u{301}", &[2]),
        ("\"'\"", &[3]),
        ("'\"; -- \\\\'", &[3]),
        ("''", &[0, 1, 2, 3]),
        ("notes:''", &[0, 1, 2, 3]),
        ("title = 'Straße É'", &[]),
        ("title = 'Straße E\u{301}'", &[2]),
    ] {
        let expected: Vec<_> = expected.iter().map(|index: &usize| &rows[*index].title[..]).collect();
        assert_eq!(titles(&db, &rows, filter).await, expected, "{filter}");
    }
    db.close().await;
}

async fn filters_at_the_limits_are_executed(database: TestDatabase) {
    let db = open(&database).await;
    let rows = [row(1, "a"), row(2, "b")];
    fill(&db, rows.to_vec()).await;
    let many = |separator: &str| vec!["a"; (MAX_BYTES + separator.len()) / (separator.len() + 1)].join(separator);
    let deep = |open: &str| format!("{}a{}", open.repeat(16), ")".repeat(16));
    let filters = [
        (many(" "), &["a"][..]),
        (many(" OR "), &["a"]),
        (many(" AND "), &["a"]),
        // Each level is as wide as it can be.
        (deep(&format!("b OR ({}", "a ".repeat(60))), &["a", "b"]),
        (deep(&format!("a OR ({}", "b ".repeat(60))), &["a"]),
        (deep(&format!("a AND ({}", "b OR ".repeat(23))), &["a"]),
    ];
    for (filter, expected) in filters {
        assert!(filter.len() > MAX_BYTES - 150, "{}", filter.len());
        assert_eq!(titles(&db, &rows, &filter).await, expected, "{filter}");
    }
    db.close().await;
}
