//! All SQL statements of the service.

pub mod accounts;
pub mod audit;
pub mod deletions;
pub mod email_changes;
pub mod epoch;
pub mod factor_accounts;
pub mod factor_keys;
pub mod factors;
pub mod feed;
pub mod installation;
pub mod login_attempts;
pub mod login_challenges;
pub mod mail_actions;
pub mod mail_records;
pub mod mails;
pub mod personal_access_tokens;
pub mod purge;
pub mod reauthentication;
pub mod recovery_codes;
pub mod revocations;
pub mod rollback;
pub mod service_accounts;
pub mod service_tokens;
pub mod sessions;
pub mod totp;
pub mod users;
