//! The database. The owner is in every `where`, so that another's task is missing by construction.
//!
//! - `tasks`: reads. `acts`: whatever an owner does, in one transaction; `needs`: what must be known for that. `lists`, `changes`: what they say.
//! - `sweep`: what concerns many rows at once.

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{db::Db, db_read, db_write};
use sqlx::{query, query_scalar};

pub(crate) mod acts;
pub(crate) mod changes;
pub(crate) mod lists;
mod needs;
pub(crate) mod sweep;
pub(crate) mod tasks;

/// Puts the columns of a [`TaskRow`](crate::model::TaskRow) where a statement lists them.
macro_rules! with_columns {
    ($before:literal $(, $after:literal)?) => {
        concat!(
            $before,
            " owner_id, id, list_id, parent_id, title, notes, priority, due_date, due_time, due_at, time_zone, labels, \
             rank, create_time, update_time, complete_time, delete_time, purge_time, revision, change "
            $(, $after)?
        )
    };
}
pub(crate) use with_columns;

/// The key of the page tokens, which all replicas share. At the very first start it becomes `fresh`.
///
/// # Errors
/// Those of the database, or if what it holds is no such key.
pub(crate) async fn page_token_key(db: &Db, fresh: &[u8; 32]) -> anyhow::Result<[u8; 32]> {
    const INSERT: &str = "insert into page_token_key (id, secret) values (1, $1) on conflict (id) do nothing";
    const SELECT: &str = "select secret from page_token_key where id = 1";
    let fresh = BASE64_URL_SAFE_NO_PAD.encode(fresh);
    db_write!(db, |connection| query(INSERT).bind(fresh).execute(connection).await.map(|_| ()))?;
    let secret: String = db_read!(db, |connection| query_scalar(SELECT).fetch_one(connection).await)?;
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).context("it is not base64url")?;
    secret.try_into().map_err(|_| anyhow::anyhow!("it does not have 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests;
