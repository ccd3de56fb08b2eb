//! The programs as people run them: real processes, real sockets, real signals.

mod canaries;
mod deletion;
mod every_rpc;
mod faults;
mod keys;
mod limits;
mod processes;
mod program;
mod rate_limits;
mod readme;
mod reflection;
mod replicas;
mod scenario;
