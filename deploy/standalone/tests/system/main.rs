//! Tests of the built programs: real processes, real sockets, real signals.

mod browser;
mod end_to_end;
mod faults;
mod operation;
mod process;
mod shim;
mod tls;
