//! The tables of a PostgreSQL schema.

use anyhow::bail;
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::digest::TableDigest;
use crate::db::postgres::session::quoted;

/// A table, and its columns that are not generated.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The SQL type.
    pub(super) kind: String,
}

impl Table {
    /// Returns the name and the columns for `copy`.
    fn location(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        format!("{}.{} ({})", quoted(&self.schema), quoted(&self.name), columns.join(", "))
    }

    /// Returns the statement that receives rows.
    pub(super) fn copy_in(&self) -> String {
        format!("copy {} from stdin", self.location())
    }

    /// Deletes all rows.
    pub(super) async fn clear(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let delete = format!("delete from {}.{}", quoted(&self.schema), quoted(&self.name));
        connection.execute(AssertSqlSafe(delete)).await.map(drop)
    }

    /// Reads all rows, and returns their checksum.
    pub(super) async fn digest(&self, connection: &mut PgConnection) -> sqlx::Result<TableDigest> {
        let mut rows = connection.copy_out_raw(&format!("copy {} to stdout", self.location())).await?;
        let (mut digest, mut line) = (TableDigest::default(), Vec::new());
        while let Some(chunk) = rows.try_next().await? {
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.pop_if(|last| *last == b'\n').is_some() {
                    digest.add(&line);
                    line.clear();
                }
            }
        }
        Ok(digest)
    }
}

/// Returns the tables of a schema, each after the tables that it references.
///
/// # Errors
/// If the server fails, or tables reference each other.
pub(super) async fn tables(connection: &mut PgConnection, schema: &str) -> anyhow::Result<Vec<Table>> {
    const COLUMNS: &str = "
        select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
        where n.nspname = $1 and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
            and a.attgenerated = '' and c.relname not in ('_sqlx_migrations', 'compatible_migrations')
        order by c.relname, a.attnum";
    const REFERENCES: &str = "
        select distinct c.relname::text, r.relname::text
        from pg_constraint f join pg_class c on c.oid = f.conrelid join pg_class r on r.oid = f.confrelid
            join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1 and f.contype = 'f' and c.oid <> r.oid";
    let columns: Vec<(String, String, String)> =
        sqlx::query_as(COLUMNS).bind(schema).fetch_all(&mut *connection).await?;
    let references: Vec<(String, String)> = sqlx::query_as(REFERENCES).bind(schema).fetch_all(connection).await?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, name, kind) in columns {
        if tables.last().is_none_or(|last| last.name != table) {
            tables.push(Table { schema: schema.to_owned(), name: table, columns: Vec::new() });
        }
        if let Some(table) = tables.last_mut() {
            table.columns.push(Column { name, kind });
        }
    }
    in_order_of_references(tables, &references)
}

fn in_order_of_references(mut tables: Vec<Table>, references: &[(String, String)]) -> anyhow::Result<Vec<Table>> {
    let mut ordered: Vec<Table> = Vec::new();
    while !tables.is_empty() {
        let is_ready = |table: &Table| {
            let mut referenced = references.iter().filter(|(from, _)| *from == table.name);
            referenced.all(|(_, to)| ordered.iter().any(|earlier| earlier.name == *to))
        };
        let Some(index) = tables.iter().position(is_ready) else {
            bail!("the tables {:?} reference each other", tables.iter().map(|table| &table.name).collect::<Vec<_>>());
        };
        ordered.push(tables.remove(index));
    }
    Ok(ordered)
}
