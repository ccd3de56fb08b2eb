//! Tests of the public API of service-kit.

mod abandoned_calls;
mod authentication;
mod budgets;
mod checked_writes;
mod connection;
mod database;
mod groups;
mod health;
mod hostile_token;
mod in_process;
mod keys;
mod migrations;
mod no_io;
mod postgres_poolers;
mod postgres_sessions;
mod postgres_tls;
mod revocation;
mod scopes;
mod searches;
mod server;
mod shutdown;
mod sqlite_log;
mod support;
mod tls;
mod token;
mod user_changes;
