//! Background jobs: the purge of deleted tasks and expired entries of task histories, the cleanup of deleted accounts, and
//! the changes of accounts.

pub(crate) mod account_cleanup;
mod backfill;
mod history;
pub(crate) mod purge;
mod removed_owners;
mod sweep;
mod user_changes;
