//! Every SQL statement of the service.

pub mod acts;
pub mod audit;
pub mod deletions;
pub mod guesses;
pub mod purge;
pub mod revocations;
pub mod service_tokens;
pub mod sessions;
pub mod users;
