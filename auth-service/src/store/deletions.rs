//! The list of the accounts that have been deleted. How they are is in `acts`.

use service_kit::{
    db::{Db, Error},
    db_read,
};
use sqlx::FromRow;
use uuid::Uuid;

/// Enters an account into the list, within the transaction that deletes it.
macro_rules! enter {
    ($connection:expr, $replicated:expr, $user_id:expr) => {{
        let take_place = ::sqlx::query_scalar($crate::store::deletions::TAKE_PLACE);
        let place: i64 = take_place.fetch_one(&mut *$connection).await?;
        let enter = ::sqlx::query($crate::store::deletions::ENTER);
        enter.bind(place).bind($user_id).execute(&mut *$connection).await?;
        if $replicated {
            let announce = ::sqlx::query($crate::store::revocations::ANNOUNCE);
            announce.bind($crate::store::revocations::CHANNEL).execute(&mut *$connection).await?;
        }
    }};
}
pub(super) use enter;

/// The row stays locked until the commit, so that the places are in the order of the commits.
pub(super) const TAKE_PLACE: &str = "update feed set last_deletion = last_deletion + 1 returning last_deletion";

pub(super) const ENTER: &str = "insert into deleted_users (place, user_id) values ($1, $2)";

/// What the sessions tell of a person goes with the account; that they have ended stays.
pub(super) const SCRUB_SESSIONS: &str =
    "update sessions set label = '', user_agent = '', ip_address = '' where user_id = $1";

/// An account of the list.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Deleted {
    /// Its place.
    pub place: i64,
    /// The account.
    pub user_id: Uuid,
}

/// The accounts after a place, in order, not more than `limit`, and the last place that is taken. A place beyond that
/// one is of a list that was lost: they are then told from the beginning.
pub async fn after(db: &Db, place: i64, limit: usize) -> Result<(Vec<Deleted>, i64), Error> {
    const LAST: &str = "select last_deletion from feed";
    const SQL: &str = "select place, user_id from deleted_users where place > $1 order by place limit $2";
    db_read!(db, |connection| {
        let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *connection).await?;
        let after = if place > last { 0 } else { place };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(&mut *connection).await?;
        Ok((rows, last))
    })
}
