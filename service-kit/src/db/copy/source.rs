//! The rows of a SQLite file, in the text format of PostgreSQL's `copy` (manual, section "COPY").

use std::fmt::Write;

use anyhow::{Context, bail};
use rusqlite::{Connection, types::ValueRef};
use uuid::Uuid;

use super::{
    digest::TableDigest,
    target::{Column, Table},
};

/// About how many bytes are sent at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Returns the names of the tables with data.
pub(super) fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    const TABLES: &str = "
        select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'
            and name not in ('_sqlx_migrations', 'compatible_migrations')
        order by name";
    connection.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect()
}

/// Reads the rows of a table in chunks of whole lines, and calls `receive` with each. `from` is where the rows are.
/// Returns the checksum of the rows.
///
/// # Errors
/// If the table cannot be read, contains a value that PostgreSQL cannot store, or `receive` fails.
pub(super) async fn read_rows(
    connection: &Connection,
    table: &Table,
    from: &str,
    mut receive: impl AsyncFnMut(Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<TableDigest> {
    let names: Vec<_> = table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    let mut statement = connection.prepare(&format!("select {} from {from}", names.join(", ")))?;
    let (mut rows, mut digest) = (statement.query([])?, TableDigest::default());
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while let Some(row) = rows.next()? {
        let start = chunk.len();
        for (index, column) in table.columns.iter().enumerate() {
            if index > 0 {
                chunk.push(b'\t');
            }
            let value = row.get_ref(index)?;
            append(&mut chunk, value, column).with_context(|| format!("column {} of {}", column.name, table.name))?;
        }
        digest.add(&chunk[start..]);
        chunk.push(b'\n');
        if chunk.len() >= CHUNK_BYTES {
            receive(std::mem::take(&mut chunk)).await?;
        }
    }
    if !chunk.is_empty() {
        receive(chunk).await?;
    }
    Ok(digest)
}

/// Appends a value as PostgreSQL writes it.
fn append(line: &mut Vec<u8>, value: ValueRef<'_>, column: &Column) -> anyhow::Result<()> {
    match (value, &column.kind[..]) {
        (ValueRef::Null, _) => line.extend_from_slice(b"\\N"),
        (ValueRef::Integer(number), "bigint") => line.extend_from_slice(number.to_string().as_bytes()),
        (ValueRef::Integer(0), "boolean") => line.push(b'f'),
        (ValueRef::Integer(1), "boolean") => line.push(b't'),
        (ValueRef::Blob(bytes), "uuid") => line.extend_from_slice(Uuid::from_slice(bytes)?.to_string().as_bytes()),
        (ValueRef::Blob(bytes), "bytea") => append_hex(line, bytes),
        (ValueRef::Text(text), "text") => append_text(line, text)?,
        (value, kind) => bail!("a value of type {} cannot be stored as {kind}", value.data_type()),
    }
    Ok(())
}

fn append_hex(line: &mut Vec<u8>, bytes: &[u8]) {
    let mut hex = "\\\\x".to_owned();
    for byte in bytes {
        // Writing to a string cannot fail.
        _ = write!(hex, "{byte:02x}");
    }
    line.extend_from_slice(hex.as_bytes());
}

fn append_text(line: &mut Vec<u8>, text: &[u8]) -> anyhow::Result<()> {
    std::str::from_utf8(text)?;
    for byte in text {
        let escaped = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0b => b'v',
            0x0c => b'f',
            0 => bail!("a text contains the character U+0000, which PostgreSQL cannot store"),
            other => {
                line.push(*other);
                continue;
            }
        };
        line.extend_from_slice(&[b'\\', escaped]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: ValueRef<'_>, kind: &str) -> anyhow::Result<String> {
        let (mut line, column) = (Vec::new(), Column { name: "c".to_owned(), kind: kind.to_owned() });
        append(&mut line, value, &column)?;
        Ok(String::from_utf8(line)?)
    }

    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        for (value, kind, expected) in [
            (ValueRef::Null, "text", "\\N"),
            (ValueRef::Integer(-7), "bigint", "-7"),
            (ValueRef::Integer(1), "boolean", "t"),
            (ValueRef::Blob(&[0; 16]), "uuid", "00000000-0000-0000-0000-000000000000"),
            (ValueRef::Blob(&[1, 0xab]), "bytea", "\\\\x01ab"),
            (ValueRef::Text(b"a\\b\tc\nd\re\x08f\x0bg\x0ch"), "text", "a\\\\b\\tc\\nd\\re\\bf\\vg\\fh"),
            (ValueRef::Text(b"\\N"), "text", "\\\\N"),
        ] {
            assert_eq!(encoded(value, kind).expect("encoded"), expected);
        }
    }

    #[test]
    fn values_that_postgresql_cannot_store_are_refused() {
        for (value, kind) in [
            (ValueRef::Text(b"a\0b"), "text"),
            (ValueRef::Text(b"\xff"), "text"),
            (ValueRef::Integer(2), "boolean"),
            (ValueRef::Blob(&[0; 15]), "uuid"),
            (ValueRef::Real(1.0), "bigint"),
        ] {
            encoded(value, kind).expect_err("refused");
        }
    }
}
