//! What happens to tasks in the background: deleted ones, and those of deleted accounts.

pub(crate) mod account_cleanup;
pub(crate) mod purge;
mod sweep;
