//! The programs as people run them: real processes, real sockets, real signals.

mod canaries;
mod deletion;
mod every_rpc;
mod faults;
mod keys;
#[path = "../support/process.rs"]
mod process;
mod processes;
mod program;
mod rate_limits;
mod readme;
mod reflection;
mod replicas;
mod scenario;
#[expect(dead_code, reason = "clocks are stepped elsewhere")]
#[path = "../faults/shim.rs"]
mod shim;
