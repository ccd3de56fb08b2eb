//! Limits how many files are transferred at a time.

use std::{sync::Arc, time::Duration};

use service_kit::{
    status::ApiError,
    turns::{Turn, TurnQueue},
};
use taskey_proto::errors::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// The retry delay of a call that exceeds a limit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A limit for all accounts together; each account transfers one file at a time.
#[derive(Debug)]
pub(crate) struct TransferLimit {
    name: &'static str,
    accounts: TurnQueue,
    slots: Arc<Semaphore>,
}

/// Permits the transfer of a file until it is dropped.
#[derive(Debug)]
pub(crate) struct TransferPermit {
    _turn: Turn,
    _slot: OwnedSemaphorePermit,
}

impl TransferLimit {
    /// Creates a limit of `max_total` files at a time. `name` is the name in metrics.
    pub(crate) fn new(name: &'static str, max_total: usize) -> Self {
        Self { name, accounts: TurnQueue::default(), slots: Arc::new(Semaphore::new(max_total)) }
    }

    /// Acquires a permit.
    ///
    /// # Errors
    /// OVERLOADED if the account, or all accounts together, transfer as many files as permitted.
    pub(crate) async fn acquire(&self, owner: Uuid) -> Result<TransferPermit, ApiError> {
        if self.accounts.count(owner) > 0 {
            return Err(self.overloaded("another file of the account is being transferred"));
        }
        let turn = self.accounts.acquire(owner).await;
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => Ok(TransferPermit { _turn: turn, _slot: slot }),
            Err(_) => Err(self.overloaded("too many files are being transferred")),
        }
    }

    fn overloaded(&self, message: &'static str) -> ApiError {
        ApiError::limit_exceeded(self.name, ErrorReason::Overloaded, message).retry_after(RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accounts_and_all_accounts_together_are_limited() {
        let limit = TransferLimit::new("test", 2);
        let [ann, bob, cat] = [1, 2, 3].map(Uuid::from_u128);
        let first = limit.acquire(ann).await.expect("below the limit");
        assert_eq!(limit.acquire(ann).await.expect_err("one at a time").reason(), ErrorReason::Overloaded);
        let _second = limit.acquire(bob).await.expect("below the limit");
        assert_eq!(limit.acquire(cat).await.expect_err("two at a time").reason(), ErrorReason::Overloaded);
        drop(first);
        limit.acquire(cat).await.expect("below the limit");
    }
}
