//! Invariants under faults of network links, servers, disks, clocks and the programs themselves.

mod admission;
mod cancelled;
mod cluster;
mod database_link;
mod disk;
mod errors;
mod feed;
mod gateway;
mod ledger;
mod load;
mod login_throttle;
mod logout;
mod many_logins;
mod others;
mod postgres;
mod proxy;
mod refresh;
mod report;
mod servers;
mod service;
mod signals;
mod step;
mod users;
mod verification;
