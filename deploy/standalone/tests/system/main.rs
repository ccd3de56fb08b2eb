//! Tests of the built programs: real processes, real sockets, real signals.

mod browser;
mod clients;
mod deployment;
mod end_to_end;
mod faults;
mod mail_server;
mod operation;
mod process;
mod recovery;
mod services;
mod shim;
mod tls;
mod upgrade;
mod webhooks;
