//! Rows of second factors, and the limit of their number for each account.

use service_kit::{
    args,
    db::{Conn, Engine, Error, FromRow, Row},
};
use uuid::Uuid;

use crate::model::factor::{Factor, FactorType};

impl FromRow for Factor {
    /// Reads `id`, the name of the type, `label, created_at, last_used_at`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.next()?,
            kind: FactorType::from_name(row.next_text()?).ok_or(Error::RowNotFound)?,
            label: row.next()?,
            created_at: row.next()?,
            last_used_at: row.next()?,
        })
    }
}

/// Prevents that concurrent calls exceed the limit together, and that an account is deleted while a factor of it is
/// inserted. SQLite does not need the lock: it has a single writer.
///
/// # Errors
/// If the database fails.
pub async fn lock_account(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    if conn.engine() == Engine::Postgres {
        conn.execute("select 1 from users where id = $1 for update", args![user_id]).await?;
    }
    Ok(())
}

/// Returns the number of factors of an account.
///
/// # Errors
/// If the database fails.
pub async fn count_within(conn: &mut Conn, user_id: Uuid) -> Result<i64, Error> {
    const COUNT: &str = "
        select (select count(*) from factors where user_id = $1 and confirmed_at is not null)
            + (select count(*) from passkeys where user_id = $1)";
    conn.fetch_one(COUNT, args![user_id]).await
}
