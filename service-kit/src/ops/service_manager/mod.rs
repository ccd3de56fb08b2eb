//! The service manager that has started the program, such as systemd: the sockets that it passes, and the state of the
//! program, of which it is notified. Without a service manager, nothing of this has an effect.

mod notify;
mod sockets;

pub(crate) use notify::{alive, ready, reloaded, stopping, watchdog};
pub use sockets::PassedSockets;
