//! The list of deleted accounts. Other services read it to delete the data of these accounts. The deletion itself is in
//! `accounts`.

use service_kit::{
    args,
    db::{Conn, Db, Error, FromRow, ReadKind, Row},
};
use uuid::Uuid;

use super::feed::CHANNEL;

/// A deleted account.
#[derive(Clone, Copy, Debug)]
pub struct DeletedUser {
    /// The sequence number.
    pub sequence: i64,
    /// The id of the account.
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
/// If the database fails.
pub async fn insert(conn: &mut Conn, user_id: Uuid) -> Result<(), Error> {
    // The row stays locked until the commit, so that sequence numbers follow the order of commits.
    const NEXT_SEQUENCE: &str = "update feed set last_deletion = last_deletion + 1 returning last_deletion";
    let sequence: i64 = conn.fetch_one(NEXT_SEQUENCE, args![]).await?;
    conn.execute("insert into deleted_users (place, user_id) values ($1, $2)", args![sequence, user_id]).await?;
    conn.notify(CHANNEL).await
}

/// Returns at most `limit` accounts after a sequence number, in order, and the last sequence number of the list. If
/// `sequence` is higher than the last one, it comes from a list that was lost, and the list is read from the beginning.
///
/// # Errors
/// If the database fails.
pub async fn list_after(db: &Db, sequence: i64, limit: usize) -> Result<(Vec<DeletedUser>, i64), Error> {
    const SELECT_LAST: &str = "select last_deletion from feed";
    const SELECT: &str = "select place, user_id from deleted_users where place > $1 order by place limit $2";
    db.read(ReadKind::Scan, move |conn| {
        Box::pin(async move {
            let last: i64 = conn.fetch_one(SELECT_LAST, args![]).await?;
            let after = if sequence > last { 0 } else { sequence };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Ok((conn.fetch_all(SELECT, args![after, limit]).await?, last))
        })
    })
    .await
}
