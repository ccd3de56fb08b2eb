//! Tests of auth-service through its API, on SQLite and on PostgreSQL.

mod account;
mod address_limits;
mod admin;
mod client_info;
mod deleted_users;
mod deletion;
mod feed;
mod keys;
mod known_networks;
mod login;
mod login_throttle;
mod logout;
mod migrations;
mod older_tables;
mod purge;
mod refresh;
mod refresh_model;
mod secrets;
mod sign_up;
mod start_up;
mod stored_key_ids;
mod support;
mod user_enumeration;
mod verifier;
