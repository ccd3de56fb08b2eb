//! Metrics of the connections of a listener.

use metrics::{Counter, Gauge};

use super::slots::ReachedLimit;

/// The metrics of a listener.
pub(super) struct ConnectionMetrics {
    open: Gauge,
    refused_by_server_limit: Counter,
    refused_by_address_limit: Counter,
}

/// An open connection, until it is dropped.
pub(super) struct OpenConnection(Gauge);

impl ConnectionMetrics {
    pub(super) fn new(listener: &str) -> Self {
        let listener = listener.to_owned();
        let refused = |limit: &'static str| metrics::counter!("taskey_refused_connections_total", "listener" => listener.clone(), "limit" => limit);
        Self {
            refused_by_server_limit: refused("server"),
            refused_by_address_limit: refused("address"),
            open: metrics::gauge!("taskey_connections", "listener" => listener),
        }
    }

    pub(super) fn count_open(&self) -> OpenConnection {
        self.open.increment(1.0);
        OpenConnection(self.open.clone())
    }

    pub(super) fn count_refused(&self, limit: ReachedLimit) {
        match limit {
            ReachedLimit::Server => self.refused_by_server_limit.increment(1),
            ReachedLimit::Address => self.refused_by_address_limit.increment(1),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
