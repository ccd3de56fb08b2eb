//! Copies the tables of services from SQLite files to PostgreSQL, and compares the copies row by row.
//!
//! All is done in one transaction, which is committed only if the copies are equal. The rows are sent in the text format
//! of `copy`, in which PostgreSQL also returns them: two tables are equal if they have the same lines.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{
    DatabaseUrl, Db, Migrate, PostgresUrl, ServiceDatabase,
    postgres::session::{SessionSettings, quoted},
    sqlite::files::ExclusiveFile,
};

mod digest;
mod source;
mod target;

use digest::TableDigest;
use target::Table;

/// A service whose tables are copied.
#[derive(Clone, Copy, Debug)]
pub struct ServiceCopy<'a> {
    /// The SQLite file.
    pub source: ServiceDatabase<'a>,
    /// The PostgreSQL schema, which must be empty. All services have schemas of the same database.
    pub target: ServiceDatabase<'a>,
}

/// A table that was copied.
#[derive(Clone, Debug)]
pub struct CopiedTable {
    /// The schema of the table.
    pub schema: String,
    /// The name of the table.
    pub name: String,
    /// The number of rows.
    pub rows: u64,
}

/// Copies the tables of services to a PostgreSQL database. Missing tables are created before. Nothing else is changed if
/// the copy fails or is interrupted.
///
/// # Errors
/// If a source is used by another process or has the tables of another version, a target contains data, a database fails,
/// or a copy differs from its source.
pub async fn copy_to_postgres(target: &PostgresUrl, services: &[ServiceCopy<'_>]) -> anyhow::Result<Vec<CopiedTable>> {
    let mut sources = Vec::new();
    for ServiceCopy { source, target } in services {
        sources.push(lock_source(source).await?);
        target.migrate().await?;
    }
    let schema = services.first().map_or("", |service| service.target.schema);
    let (mut connection, _) = SessionSettings::without_limits(schema).connect(target.options()).await?;
    connection.execute("begin").await?;
    let mut copied = Vec::new();
    for (service, source) in services.iter().zip(&sources) {
        copied.extend(copy_service(&mut connection, service, source).await?);
    }
    connection.execute("commit").await?;
    connection.close().await?;
    Ok(copied)
}

/// Locks a file whose tables are those of this version.
async fn lock_source(source: &ServiceDatabase<'_>) -> anyhow::Result<ExclusiveFile> {
    let DatabaseUrl::Sqlite(path) = source.url else { bail!("the source must be sqlite:PATH") };
    ensure!(path.exists(), "there is no database {}", path.display());
    source.check(Migrate::Never).await?;
    ensure!(source.status().await?.newer.is_none(), "the tables of {} are newer than this program", path.display());
    ExclusiveFile::lock(path)
}

async fn copy_service(
    connection: &mut PgConnection,
    service: &ServiceCopy<'_>,
    source: &ExclusiveFile,
) -> anyhow::Result<Vec<CopiedTable>> {
    let tables = target::tables(connection, service.target.schema).await?;
    check_sources(service, source, &tables)?;
    lock(connection, &tables).await?;
    clear(connection, service, &tables).await?;
    let mut copied = Vec::new();
    for table in &tables {
        let rows = copy_table(connection, table, source, service.source.sqlite_source(&table.name)).await;
        let rows = rows.with_context(|| format!("cannot copy the table {}.{}", table.schema, table.name))?;
        copied.push(CopiedTable { schema: table.schema.clone(), name: table.name.clone(), rows });
    }
    Ok(copied)
}

/// Checks that each table of a file is copied.
fn check_sources(service: &ServiceCopy<'_>, source: &ExclusiveFile, tables: &[Table]) -> anyhow::Result<()> {
    let sources: Vec<_> = tables.iter().map(|table| service.source.sqlite_source(&table.name)).collect();
    for name in source::table_names(&source.connection)? {
        let is_copied = sources.iter().any(|from| from.split(' ').any(|word| word == name));
        ensure!(is_copied, "the file contains an unknown table, {name}");
    }
    Ok(())
}

/// Keeps servers from using the tables until the transaction ends.
async fn lock(connection: &mut PgConnection, tables: &[Table]) -> sqlx::Result<()> {
    let names: Vec<_> =
        tables.iter().map(|table| format!("{}.{}", quoted(&table.schema), quoted(&table.name))).collect();
    let lock = format!("lock table {} in access exclusive mode", names.join(", "));
    connection.execute(AssertSqlSafe(lock)).await.map(drop)
}

/// Deletes the rows that migrations have inserted.
///
/// # Errors
/// If the tables contain other rows.
async fn clear(connection: &mut PgConnection, service: &ServiceCopy<'_>, tables: &[Table]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let new = create_new(folder.path(), &service.source).await?;
    for table in tables.iter().rev() {
        let from = service.source.sqlite_source(&table.name);
        let expected = source::read_rows(&new.connection, table, from, async |_| Ok(())).await?;
        ensure!(
            table.digest(connection).await? == expected,
            "the schema {:?} already contains data, in the table {}; use an empty one",
            table.schema,
            table.name
        );
        table.clear(connection).await?;
    }
    Ok(())
}

/// Creates a file that contains only what migrations insert.
async fn create_new(folder: &Path, service: &ServiceDatabase<'_>) -> anyhow::Result<ExclusiveFile> {
    let path = folder.join("new.db");
    Db::migrate(&DatabaseUrl::Sqlite(path.clone()), service.schema, service.migrations, service.pool).await?;
    ExclusiveFile::lock(&path)
}

/// Copies the rows of a table, compares them, and returns their number.
async fn copy_table(
    connection: &mut PgConnection,
    table: &Table,
    source: &ExclusiveFile,
    from: &str,
) -> anyhow::Result<u64> {
    let mut copy = connection.copy_in_raw(&table.copy_in()).await?;
    let sent = source::read_rows(&source.connection, table, from, async |chunk| {
        copy.send(chunk).await?;
        Ok(())
    });
    let sent: TableDigest = sent.await?;
    copy.finish().await?;
    let stored = table.digest(connection).await?;
    ensure!(stored == sent, "the copy differs from its source: {} of {} rows", stored.rows, sent.rows);
    Ok(sent.rows)
}
