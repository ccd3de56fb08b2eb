//! The epoch that begins after a backup was restored.

use service_kit::{
    args,
    clock::Timestamp,
    db::{Db, Error},
};
use uuid::Uuid;

use super::feed::{self, EPOCH_GAP};

/// Begins the epoch `new`: revokes all sessions, and refuses all access tokens that were issued before `issued_before`.
/// Returns how many sessions were revoked.
///
/// # Errors
/// If the database fails.
pub async fn begin(db: &Db, now: Timestamp, issued_before: Timestamp, new: Uuid) -> Result<u64, Error> {
    const REVOKE: &str = "update sessions set revoked_at = $1 where revoked_at is null";
    const BEGIN: &str = "
        update feed set epoch = $1, last_revocation = last_revocation + $2, issued_before = $3
        returning last_revocation";
    const ASSIGN_SEQUENCE: &str =
        "update sessions set revocation = $1 where revocation is null and revoked_at is not null";
    db.write(move |conn| {
        Box::pin(async move {
            // The rows of sessions are locked before that of the feed, as in every revocation.
            let revoked = conn.execute(REVOKE, args![now]).await?;
            let sequence: i64 = conn.fetch_one(BEGIN, args![new, EPOCH_GAP, issued_before]).await?;
            conn.execute(ASSIGN_SEQUENCE, args![sequence]).await?;
            conn.notify(feed::CHANNEL).await?;
            Ok(revoked)
        })
    })
    .await
}

/// Returns the time before which issued access tokens are refused, if there is one.
///
/// # Errors
/// If the database fails.
pub async fn issued_before(db: &Db) -> Result<Option<Timestamp>, Error> {
    db.fetch_optional("select issued_before from feed", args![]).await?.ok_or(Error::RowNotFound)
}
