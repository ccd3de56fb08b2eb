//! Limits how much all clients together and each single client use at a time: bytes, calls or streams.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use http::Extensions;
use service_kit::{
    budget::{Budget, Share},
    network::rate_limit_key,
    status::ApiError,
};
use taskey_proto::errors::v1::ErrorReason;

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
    name: LimitName,
    budget: Arc<Budget>,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug)]
pub struct LimitName {
    /// The name in error messages.
    pub what: &'static str,
    /// The name in metrics.
    pub metric: &'static str,
}

/// A part of a quota that a client uses until this value is dropped.
#[derive(Debug)]
pub struct Permit {
    name: LimitName,
    share: Share,
}

/// Maximum size of all bodies in memory, and of those of one client.
const MAX_BYTES: usize = 256 * 1024 * 1024;
const MAX_BYTES_PER_CLIENT: usize = MAX_BYTES / 16;

impl Quota {
    /// Creates the quota of the bytes of bodies.
    #[must_use]
    pub fn of_bytes() -> Arc<Self> {
        Self::new(LimitName { what: "bytes", metric: "gateway_bytes" }, MAX_BYTES, MAX_BYTES_PER_CLIENT)
    }

    /// Creates a quota that is not in use.
    #[must_use]
    pub fn new(name: LimitName, max_total: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { name, budget: Budget::new(max_total, max_per_client) })
    }

    /// Acquires an amount. Even if it is zero, it is refused to a client that is beyond its limit.
    ///
    /// # Errors
    /// `OVERLOADED` if the client or all clients together would exceed the limit.
    pub fn acquire(self: &Arc<Self>, client: Client, amount: usize) -> Result<Permit, ApiError> {
        let mut permit = Permit { name: self.name, share: self.budget.share(client.0) };
        permit.grow(amount)?;
        Ok(permit)
    }
}

impl Permit {
    /// Adds to the amount.
    ///
    /// # Errors
    /// `OVERLOADED` if the client or all clients together would exceed the limit.
    pub fn grow(&mut self, amount: usize) -> Result<(), ApiError> {
        self.share.grow(amount).map_err(|_| {
            let message = format!("too many {} are in use at this time", self.name.what);
            ApiError::limit_exceeded(self.name.metric, ErrorReason::Overloaded, message).retry_after(RETRY_AFTER)
        })
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
        self.share.grow_beyond_limits(amount);
        Ok(())
    }

    /// Returns the amount.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.share.amount()
    }

    /// Releases the whole amount.
    pub fn clear(&mut self) {
        self.share.clear();
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const BYTES: LimitName = LimitName { what: "bytes", metric: "bytes" };

    fn client(last: u8) -> Client {
        Client::new(Some([192, 0, 2, last].into()))
    }

    #[test]
    fn one_client_and_all_clients_are_limited() {
        let quota = Quota::new(BYTES, 5, 3);
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
        let quota = Quota::new(BYTES, 9, 3);
        let mut permit = quota.acquire(client(1), 0).expect("below the limit");
        permit.grow_for_response(4, false).expect("not refused");
        assert!(permit.grow_for_response(1, true).is_err());
        assert!(quota.acquire(client(1), 0).is_err());
        assert!(quota.acquire(client(2), 0).is_ok());
        permit.clear();
        assert!(quota.acquire(client(1), 0).is_ok());
    }
}
