//! Invariants under faults of network links, servers, disks, clocks and the programs themselves.

mod admission;
mod cancelled;
mod cluster;
mod crowd;
mod disk;
mod feed;
mod gateway;
mod guesses;
mod ledger;
mod links;
mod load;
mod logout;
mod people;
mod postgres;
mod proxy;
mod refresh;
mod refusals;
mod report;
mod servers;
mod service;
mod signals;
mod step;
mod verification;
