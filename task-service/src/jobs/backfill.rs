//! Fills what older programs have left out of rows, in batches.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Engine, Error, FromRow, QueryBuilder, Row},
};
use uuid::Uuid;

use super::sweep::{begin_mutations, execute, lock_owners, push_pairs, sweep};
use crate::{
    model::{due::due_at, field::Labels, fold::search_text},
    store::rows::text_table,
};

/// Adds at most `limit` lists to the change feed that were created by a program from before lists were in it, and returns
/// their number. The lists of an owner are one mutation.
///
/// # Errors
/// Those of the database.
pub(crate) async fn add_lists_to_feed(db: &Db, limit: i64) -> Result<u64, Error> {
    sweep(db, move |conn| Box::pin(add_lists_to_feed_within(conn, limit))).await
}

async fn add_lists_to_feed_within(conn: &mut Conn, limit: i64) -> Result<u64, Error> {
    const MISSING: &str = "select owner_id, id from task_lists where change = 0 order by owner_id, id limit $1";
    let missing: Vec<(Uuid, Uuid)> = conn.fetch_all(MISSING, args![limit]).await?;
    if missing.is_empty() {
        return Ok(0);
    }
    begin_mutations(conn, missing.iter().map(|(owner, _)| *owner).collect()).await?;
    let mut add = QueryBuilder::new(
        "update task_lists set change = (select last_change from owners where owners.owner_id = task_lists.owner_id)
        where change = 0 and (owner_id, id) in ",
    );
    push_pairs(&mut add, &missing);
    execute(conn, add).await?;
    Ok(missing.len() as u64)
}

/// A task whose texts must be folded.
struct UnfoldedTask {
    owner_id: Uuid,
    id: Uuid,
    title: String,
    notes: String,
    labels: String,
    due_date: Option<String>,
    due_time: Option<Timestamp>,
    time_zone: String,
}

impl FromRow for UnfoldedTask {
    /// Reads `owner_id, id, title, notes, labels, due_date, due_time, time_zone`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            owner_id: row.next()?,
            id: row.next()?,
            title: row.next()?,
            notes: row.next()?,
            labels: row.next()?,
            due_date: row.next()?,
            due_time: row.next()?,
            time_zone: row.next()?,
        })
    }
}

/// Fills the columns `search`, `label_keys` and `due_at` of at most `limit` tasks from before these columns existed, and
/// returns the number of tasks.
///
/// # Errors
/// Those of the database.
pub(crate) async fn fold_texts(db: &Db, limit: i64) -> Result<u64, Error> {
    sweep(db, move |conn| Box::pin(fold_texts_within(conn, limit))).await
}

async fn fold_texts_within(conn: &mut Conn, limit: i64) -> Result<u64, Error> {
    const SET_OTHERS: &str = "update tasks set due_at = $3, label_keys = $4 where owner_id = $1 and id = $2";
    let mut old = QueryBuilder::new("select owner_id, id, title, notes, labels, due_date, due_time, time_zone from ");
    old.push(match conn.engine() {
        // An index finds these rows among the texts.
        Engine::Sqlite => "task_texts cross join tasks using (owner_id, id)",
        Engine::Postgres => "tasks",
    });
    old.push(" where search = '' order by owner_id, id limit ").push_bind(limit);
    let (sql, values) = old.build();
    let old: Vec<UnfoldedTask> = conn.fetch_all(sql, values).await?;
    lock_owners(conn, old.iter().map(|task| task.owner_id)).await?;
    for task in &old {
        let mut update = QueryBuilder::new(format!("update {} set search = ", text_table(conn.engine())));
        update.push_bind(search_text(&task.title, &task.notes));
        update.push(" where owner_id = ").push_bind(task.owner_id).push(" and id = ").push_bind(task.id);
        update.push(" and search = ''");
        if execute(conn, update).await? > 0 {
            let due_at = due_at(task.due_date.as_deref(), task.due_time, &task.time_zone);
            let keys = Labels::keys(&task.labels);
            conn.execute(SET_OTHERS, args![task.owner_id, task.id, due_at, keys]).await?;
        }
    }
    Ok(old.len() as u64)
}

/// Fills the column `label_keys` of at most `limit` tasks that a program from before this column has created, and returns
/// the number of tasks.
///
/// # Errors
/// Those of the database.
pub(crate) async fn fold_labels(db: &Db, limit: i64) -> Result<u64, Error> {
    sweep(db, move |conn| Box::pin(fold_labels_within(conn, limit))).await
}

async fn fold_labels_within(conn: &mut Conn, limit: i64) -> Result<u64, Error> {
    const OLD: &str = "
        select owner_id, id, labels from tasks where label_keys = '' and labels <> '' order by owner_id, id limit $1";
    const UPDATE: &str = "
        update tasks set label_keys = $3 where owner_id = $1 and id = $2 and labels = $4 and label_keys = ''";
    let old: Vec<(Uuid, Uuid, String)> = conn.fetch_all(OLD, args![limit]).await?;
    lock_owners(conn, old.iter().map(|(owner, ..)| *owner)).await?;
    for (owner, id, labels) in &old {
        conn.execute(UPDATE, args![*owner, *id, Labels::keys(labels), labels]).await?;
    }
    Ok(old.len() as u64)
}

#[cfg(test)]
mod tests {
    use service_kit::{on_each_database, testing::TestDatabase};
    use sqlx::migrate::Migrator;

    use super::*;
    use crate::{
        MIGRATIONS,
        store::tests::{open, open_with},
    };

    on_each_database!(texts_and_labels_of_older_programs_are_folded);

    /// Inserts a task as a program from before labels were folded. `id` is its number.
    async fn insert(db: &Db, id: u128, texts: [&str; 3]) {
        const TASK: &str = "insert into tasks (owner_id, id, list_id, priority, due_date, time_zone, create_time,
            update_time, revision, change, rank, title, labels";
        const VALUES: &str = "values ($1, $2, $1, 0, '2026-11-30', 'Asia/Tokyo', 1, 1, 1, 1, '51', $3, $4";
        let [title, labels, search] = texts;
        let (owner, id) = (Uuid::from_u128(1), Uuid::from_u128(id));
        let (columns, placeholder) = match db.engine() {
            Engine::Sqlite => ("", ""),
            Engine::Postgres => (", notes, search", ", '', $5"),
        };
        let mut values = args![owner, id, title, labels];
        values.extend((db.engine() == Engine::Postgres).then(|| search.into()));
        let (sql, _) = QueryBuilder::new(format!("{TASK}{columns}) {VALUES}{placeholder})")).build();
        db.execute(sql, values).await.expect("a task");
        if db.engine() == Engine::Sqlite {
            let texts = "insert into task_texts (owner_id, id, notes, search) values ($1, $2, '', $3)";
            db.execute(texts, args![owner, id, search]).await.expect("its texts");
        }
    }

    async fn texts_and_labels_of_older_programs_are_folded(database: TestDatabase) {
        const OWNER: &str = "
            insert into owners (owner_id, last_change, forgotten, live_tasks, live_lists) values ($1, 1, 0, 3, 1)";
        let older = MIGRATIONS.iter().filter(|migration| migration.version < 8).cloned().collect();
        let db = open_with(&database, &Migrator::with_migrations(older)).await;
        db.execute(OWNER, args![Uuid::from_u128(1)]).await.expect("an owner");
        insert(&db, 2, ["Milk", "\nHome\nWeek-7\n", "milk\n"]).await;
        insert(&db, 3, ["Äpfel", "\nÄpfel\n", "äpfel\n"]).await;
        insert(&db, 4, ["İzmir", "", "i\u{307}zmir\n"]).await;
        db.close().await;

        let db = open(&database).await;
        insert(&db, 5, ["Oats", "\nHOME\nÖl\n", "oats\n"]).await;
        assert_eq!(fold_texts(&db, 100).await.expect("a batch"), 2, "the others are folded in the same way");
        assert_eq!(fold_labels(&db, 100).await.expect("a batch"), 1);
        assert_eq!(fold_texts(&db, 100).await.expect("a batch") + fold_labels(&db, 100).await.expect("a batch"), 0);
        let table = crate::store::rows::tasks_with_texts(db.engine());
        let select = QueryBuilder::new(format!("select search, label_keys, due_at from {table} order by id"));
        let (select, values) = select.build();
        let rows: Vec<(String, String, Option<i64>)> = db.fetch_all(select, values).await.expect("the rows");
        // The end of the day in Tokyo.
        let end = Some(1_796_050_800_000_000);
        let expected = [
            ("milk\n", "\nhome\nweek-7\n", None),
            ("äpfel\n", "\näpfel\n", end),
            ("izmir\n", "", end),
            ("oats\n", "\nhome\nöl\n", None),
        ];
        assert_eq!(rows, expected.map(|(search, keys, due_at)| (search.to_owned(), keys.to_owned(), due_at)));
        db.close().await;
    }
}
