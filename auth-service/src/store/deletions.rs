//! The list of deleted accounts, which tells other services whose data to delete. Accounts are deleted in `accounts`.

use service_kit::{
    args,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::revocations::CHANNEL;

/// An account of the list.
#[derive(Clone, Copy, Debug)]
pub struct DeletedUser {
    /// Its number in the list.
    pub sequence: i64,
    /// The account.
    pub user_id: Uuid,
}

impl FromRow for DeletedUser {
    /// Reads `place, user_id`.
    fn from_row(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Self { sequence: row.next()?, user_id: row.next()? })
    }
}

/// Adds an account to the list, within the transaction that deletes it.
///
/// # Errors
/// Those of the database.
pub async fn insert(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    // The row stays locked until the commit, so that the numbers are in the order of the commits.
    const NEXT: &str = "update feed set last_deletion = last_deletion + 1 returning last_deletion";
    let sequence: i64 = conn.fetch_one(NEXT, args![]).await?;
    conn.execute("insert into deleted_users (place, user_id) values ($1, $2)", args![sequence, user_id]).await?;
    conn.notify(CHANNEL).await
}

/// Returns the accounts after a number, in order, at most `limit`, and the last number of the list. A number beyond that
/// one is of a list that was lost: then the list is returned from its beginning.
///
/// # Errors
/// Those of the database.
pub async fn list_after(db: &Db, sequence: i64, limit: usize) -> Result<(Vec<DeletedUser>, i64), Error> {
    const LAST: &str = "select last_deletion from feed";
    const SELECT: &str = "select place, user_id from deleted_users where place > $1 order by place limit $2";
    db.read(ReadKind::Scan, move |conn| {
        Box::pin(async move {
            let last: i64 = conn.fetch_one(LAST, args![]).await?;
            let after = if sequence > last { 0 } else { sequence };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Ok((conn.fetch_all(SELECT, args![after, limit]).await?, last))
        })
    })
    .await
}
