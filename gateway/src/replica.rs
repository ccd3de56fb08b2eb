//! The replicas of a service behind the gateway.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;
use service_kit::server::in_process::InProcessChannel;

/// How a replica is called.
#[derive(Clone, Debug)]
pub enum Address {
    /// Over the network, at this URL.
    Url(Uri),
    /// In this process.
    InProcess(InProcessChannel),
}

impl From<Uri> for Address {
    fn from(url: Uri) -> Self {
        Self::Url(url)
    }
}

impl From<InProcessChannel> for Address {
    fn from(channel: InProcessChannel) -> Self {
        Self::InProcess(channel)
    }
}

/// A replica of a service, and whether it serves.
#[derive(Debug)]
pub struct Replica {
    address: Address,
    serves: AtomicBool,
}

impl Replica {
    /// Creates a replica. It is assumed to serve until the first health check.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        Self { address: address.into(), serves: AtomicBool::new(true) }
    }

    /// Returns how it is called.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Reports whether it serves, according to the last health check or attempt to connect.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Stores whether it serves. Calls are made to it only while it does, unless no replica does.
    pub fn set_serving(&self, serves: bool) {
        self.serves.store(serves, Ordering::Relaxed);
    }
}
