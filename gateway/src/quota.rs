//! Limits how much all clients together and each single client use at a time: bytes, calls or streams.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Extensions;
use service_kit::{network::rate_limit_key, status::ApiError};
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// The retry delay of a call that exceeds a limit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The client of a request, as its use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// Creates the client with this address. Clients without an address share their limits.
    #[must_use]
    pub fn new(address: Option<IpAddr>) -> Self {
        Self(rate_limit_key(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())))
    }

    /// Returns the client of a request, which [`Gateway::handle`](crate::service::Gateway::handle) has determined.
    #[must_use]
    pub fn from_extensions(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::new(None))
    }
}

/// A limit of what is in use at a time.
#[derive(Debug)]
pub struct Quota {
    /// What is limited, for the error message.
    what: &'static str,
    max_total: usize,
    max_per_client: usize,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    total: usize,
    /// A client that uses nothing has no entry.
    by_client: HashMap<Client, usize>,
}

/// A part of a quota that a client uses until this value is dropped.
#[derive(Debug)]
pub struct Permit {
    quota: Arc<Quota>,
    client: Client,
    amount: usize,
}

/// Maximum size of all bodies in memory, and of those of one client.
const MAX_BYTES: usize = 256 * 1024 * 1024;
const MAX_BYTES_PER_CLIENT: usize = MAX_BYTES / 16;

impl Quota {
    /// Creates the quota of the bytes of bodies.
    #[must_use]
    pub fn of_bytes() -> Arc<Self> {
        Self::new("bytes", MAX_BYTES, MAX_BYTES_PER_CLIENT)
    }

    /// Creates a quota that is not in use.
    #[must_use]
    pub fn new(what: &'static str, max_total: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { what, max_total, max_per_client, usage: Mutex::default() })
    }

    /// Acquires an amount. Even if it is zero, it is refused to a client that is beyond its limit.
    ///
    /// # Errors
    /// `OVERLOADED` if the client or all clients together would exceed the limit.
    pub fn acquire(self: &Arc<Self>, client: Client, amount: usize) -> Result<Permit, ApiError> {
        let mut permit = Permit { quota: Arc::clone(self), client, amount: 0 };
        permit.grow(amount)?;
        Ok(permit)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overloaded(&self) -> ApiError {
        let message = format!("too many {} are in use at this time", self.what);
        ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, message).retry_after(RETRY_AFTER)
    }
}

impl Permit {
    /// Adds to the amount.
    ///
    /// # Errors
    /// `OVERLOADED` if the client or all clients together would exceed the limit.
    pub fn grow(&mut self, amount: usize) -> Result<(), ApiError> {
        let mut usage = self.quota.usage();
        let used = usage.by_client.get(&self.client).copied().unwrap_or(0);
        if usage.total + amount > self.quota.max_total || used + amount > self.quota.max_per_client {
            return Err(self.quota.overloaded());
        }
        usage.add(self.client, amount);
        self.amount += amount;
        Ok(())
    }

    /// Adds the size of a response. That of a call that may have taken effect is not refused any more, but its client is
    /// refused further calls until it is below the limit again.
    ///
    /// # Errors
    /// `OVERLOADED` if the call has no effect (`is_read`), and the client or all clients together would exceed the limit.
    pub fn grow_for_response(&mut self, amount: usize, is_read: bool) -> Result<(), ApiError> {
        if is_read {
            return self.grow(amount);
        }
        self.quota.usage().add(self.client, amount);
        self.amount += amount;
        Ok(())
    }

    /// Returns the amount.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Releases the whole amount.
    pub fn clear(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        self.quota.usage().remove(self.client, amount);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Usage {
    fn add(&mut self, client: Client, amount: usize) {
        if amount > 0 {
            self.total += amount;
            *self.by_client.entry(client).or_default() += amount;
        }
    }

    fn remove(&mut self, client: Client, amount: usize) {
        self.total -= amount;
        if let Some(used) = self.by_client.get_mut(&client) {
            *used -= amount;
            if *used == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Client {
        Client::new(Some([192, 0, 2, last].into()))
    }

    #[test]
    fn one_client_and_all_clients_are_limited() {
        let quota = Quota::new("bytes", 5, 3);
        let mut first = quota.acquire(client(1), 2).expect("below the limit");
        assert!(quota.acquire(client(1), 2).is_err());
        let _second = quota.acquire(client(2), 2).expect("below the limit");
        assert!(first.grow(2).is_err() && quota.acquire(client(3), 2).is_err());
        let error = quota.acquire(client(3), 2).expect_err("refused");
        assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, ErrorReason::Overloaded));
        drop(first);
        let _third = quota.acquire(client(3), 2).expect("below the limit");
    }

    #[test]
    fn client_beyond_its_limit_is_refused_until_it_is_below() {
        let quota = Quota::new("bytes", 9, 3);
        let mut permit = quota.acquire(client(1), 0).expect("below the limit");
        permit.grow_for_response(4, false).expect("not refused");
        assert!(permit.grow_for_response(1, true).is_err());
        assert!(quota.acquire(client(1), 0).is_err());
        assert!(quota.acquire(client(2), 0).is_ok());
        permit.clear();
        assert!(quota.acquire(client(1), 0).is_ok());
        drop(permit);
        let usage = quota.usage();
        assert_eq!((usage.total, usage.by_client.len()), (0, 0));
    }
}
