//! The SQL of calls. Every `where` on the rows of owners contains the owner, so that the rows of others cannot be
//! reached.
//!
//! - `rows`: the columns of tasks and lists.
//! - `tasks`, `changes`: reads of tasks and of the change feed. `read_groups`: reads of single tasks in groups.
//! - `mutations`: writes to tasks. `lists`: reads of lists and writes to them. Each write is one transaction.
//!   `write_groups`: small writes of several owners in one transaction. `webhooks`: reads of webhooks and writes of their
//!   owners. `webhook_queue`: the webhooks with changes to send. `webhook_attempts`: the attempts to send them.
//!   `webhook_keys`: the keys that encrypt their secrets. `disabled_owners`: the owners whose webhooks send nothing.
//!   `reminder_queue`: the reminders that are due.
//! - `transaction`: the common steps of writes. `storage_limits`: removes the oldest rows of accounts at their limits. `read_set`: the rows that a mutation reads. `owner_queue`: the queue in
//!   which writes of an owner wait. `epoch`: the history of the database, on which tokens and etags depend.

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{args, db::Db};

pub(crate) mod changes;
pub(crate) mod disabled_owners;
pub(crate) mod epoch;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod lists;
pub(crate) mod mutations;
pub(crate) mod owner_queue;
pub(crate) mod read_groups;
mod read_set;
pub(crate) mod reminder_queue;
pub(crate) mod rows;
pub(crate) mod storage_limits;
pub(crate) mod tasks;
pub(crate) mod transaction;
pub(crate) mod webhook_attempts;
pub(crate) mod webhook_keys;
pub(crate) mod webhook_queue;
pub(crate) mod webhook_writes;
pub(crate) mod webhooks;
pub(crate) mod write_groups;

/// Returns the page token key, which all replicas share. If none is stored yet, stores `fresh`.
///
/// # Errors
/// Those of the database, or if the stored key is not valid.
pub(crate) async fn page_token_key(db: &Db, fresh: &[u8; 32]) -> anyhow::Result<[u8; 32]> {
    const INSERT: &str = "insert into page_token_key (id, secret) values (1, $1) on conflict (id) do nothing";
    const SELECT: &str = "select secret from page_token_key where id = 1";
    db.execute(INSERT, args![BASE64_URL_SAFE_NO_PAD.encode(fresh)]).await?;
    let secret: Option<String> = db.fetch_optional(SELECT, args![]).await?;
    let secret =
        BASE64_URL_SAFE_NO_PAD.decode(secret.context("the key is missing")?).context("the key is not base64url")?;
    secret.try_into().map_err(|_| anyhow::anyhow!("the key does not have 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests;
