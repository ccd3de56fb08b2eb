//! Background jobs: the purge of deleted tasks, and the cleanup of deleted accounts.

pub(crate) mod account_cleanup;
mod backfill;
pub(crate) mod purge;
mod removed_owners;
mod sweep;
