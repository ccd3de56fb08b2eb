//! Background jobs: the purge of deleted tasks and expired entries of task histories, and the cleanup of deleted accounts.

pub(crate) mod account_cleanup;
mod backfill;
mod history;
pub(crate) mod purge;
mod removed_owners;
mod sweep;
