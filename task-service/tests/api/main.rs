//! task-service as its callers see it: through the real server and the generated client, on both engines, with a feed
//! of revocations that does as the test says.

mod concurrency;
mod create;
mod delete;
mod feed;
mod isolation;
mod pages;
mod removal;
mod server;
mod start_up;
mod state;
mod support;
mod token;
mod update;
