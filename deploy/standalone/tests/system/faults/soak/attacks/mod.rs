//! A library of attacks: one function for each way in which a client can take the services away from others. Each runs
//! until it is dropped, and counts what it does.

use std::sync::atomic::AtomicUsize;

use futures::future::BoxFuture;

mod accounts;
mod bodies;
mod calls;
mod connections;
mod credentials;
mod frames;
mod http1;
mod http2;
mod json;
mod load;
mod messages;
mod raw;
mod reads;
mod requests;
mod streams;
mod target;
mod tasks;
mod tokens;

pub use target::Target;

/// Runs until it is dropped.
pub type Attack = for<'a> fn(&'a Target, &'a AtomicUsize) -> BoxFuture<'a, ()>;

/// Returns all attacks with their names.
pub fn all() -> Vec<(&'static str, Attack)> {
    let lists: [&[(&str, Attack)]; 7] = [
        &FAULTS,
        &frames::FRAMES,
        &messages::MESSAGES,
        &requests::REQUESTS,
        &json::JSON,
        &accounts::ACCOUNTS,
        &tasks::TASKS,
    ];
    lists.concat()
}

/// Attacks that have harmed others before.
const FAULTS: [(&str, Attack); 20] = [
    ("unread large responses", |target, count| Box::pin(streams::leave_large_responses_unread(target, count))),
    ("unread watches", |target, count| Box::pin(streams::leave_watches_unread(target, count))),
    ("health watches", |target, count| Box::pin(streams::open_health_watches(target, count))),
    ("unknown names", |target, count| Box::pin(streams::ask_for_unknown_names(target, count))),
    ("requests without a body", |target, count| Box::pin(bodies::send_headers_only(target, count))),
    ("half-sent bodies", |target, count| Box::pin(bodies::send_half_bodies(target, count))),
    ("stalled bodies over HTTP/1", |target, count| Box::pin(http1::stall_bodies(target, count))),
    ("odd headers", |target, count| Box::pin(http1::send_odd_headers(target, count))),
    ("malformed HTTP/1", |target, count| Box::pin(http1::send_malformed_requests(target, count))),
    ("idle connections", |target, count| Box::pin(connections::keep_idle(target, count))),
    ("new connections", |target, count| Box::pin(connections::open_and_close(target, count))),
    ("cancelled garbage credentials", |target, count| Box::pin(credentials::cancel_garbage(target, count))),
    ("wrong passwords", |target, count| Box::pin(credentials::guess_passwords(target, count))),
    ("garbage tokens", |target, count| Box::pin(credentials::send_garbage_tokens(target, count))),
    ("cancelled calls", |target, count| Box::pin(load::cancel_calls(target, count))),
    ("expensive filters", |target, count| Box::pin(load::search_expensively(target, count))),
    ("large pages", |target, count| Box::pin(load::list_large_pages(target, count))),
    ("large subtrees", |target, count| Box::pin(load::delete_and_restore_subtrees(target, count))),
    ("creates and deletes", |target, count| Box::pin(load::create_and_delete(target, count))),
    ("concurrent updates", |target, count| Box::pin(load::update_concurrently(target, count))),
];
