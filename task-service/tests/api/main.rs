//! Black-box tests of task-service: the real server and the generated client on both database engines, with a
//! revocation feed that the test controls.

mod account_cleanup;
mod batch;
mod batch_moves;
mod calls;
mod changes;
mod concurrency;
mod create;
mod delete;
mod differential;
mod feed;
mod fields;
mod follow;
mod history;
mod isolation;
mod list_deletion;
mod lists;
mod moves;
mod order;
mod pages;
mod proxy;
mod purged;
mod quota;
mod requests;
mod retries;
mod server;
mod soak;
mod start_up;
mod state;
mod subtasks;
mod support;
mod token;
mod update;
mod watch;
mod watch_ends;
mod watch_time;
