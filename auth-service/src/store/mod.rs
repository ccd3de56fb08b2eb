//! All SQL statements of the service.

pub mod accounts;
pub mod audit;
pub mod deletions;
pub mod email_changes;
pub mod epoch;
pub mod feed;
pub mod installation;
pub mod login_attempts;
pub mod mail_actions;
pub mod mail_records;
pub mod mails;
pub mod personal_access_tokens;
pub mod purge;
pub mod revocations;
pub mod service_tokens;
pub mod sessions;
pub mod users;
