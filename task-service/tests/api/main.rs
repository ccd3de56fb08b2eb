//! task-service as its callers see it: through the real server and the generated client, on both engines, with a feed
//! of revocations that does as the test says.

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
mod isolation;
mod list_deletion;
mod lists;
mod moves;
mod order;
mod pages;
mod parts;
mod proxy;
mod purged;
mod quota;
mod removal;
mod requests;
mod retries;
mod server;
mod soak;
mod start_up;
mod state;
mod support;
mod token;
mod update;
mod watch;
mod watch_ends;
mod watch_time;
