//! The epoch of a database: tokens and etags of a history that has been lost are not valid in another one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

/// How often the epoch is read again, in case a backup was restored while the service runs.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Identifies the history of a database. A new epoch begins when committed transactions are lost, for example because a
/// backup was restored: sequence numbers and revisions are then assigned a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// The number of bytes of an epoch in a token.
    pub(crate) const BYTES: usize = size_of::<u64>();

    /// Returns the bytes of the epoch, as they are in tokens.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// Returns the epoch with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Parses the hexadecimal form, which is what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self).filter(|epoch| epoch.to_string() == text)
    }
}

impl From<Uuid> for Epoch {
    /// Combines the halves of the stored id, of which the first one may contain only a time.
    fn from(id: Uuid) -> Self {
        let (high, low) = id.as_u64_pair();
        Self(high ^ low)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The epoch that was read last, shared by all that create tokens and etags.
#[derive(Clone, Debug)]
pub struct CurrentEpoch(Arc<AtomicU64>);

impl CurrentEpoch {
    /// Creates a shared epoch.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self(Arc::new(AtomicU64::new(epoch.0)))
    }

    /// Returns the epoch.
    #[must_use]
    pub fn get(&self) -> Epoch {
        Epoch(self.0.load(Ordering::Acquire))
    }

    /// Replaces the epoch. Reports whether it has changed, which is logged.
    pub fn set(&self, epoch: Epoch) -> bool {
        let has_changed = self.0.swap(epoch.0, Ordering::AcqRel) != epoch.0;
        if has_changed {
            tracing::warn!(%epoch, "the database has lost history; earlier tokens and etags are not valid any more");
        }
        has_changed
    }

    /// Reads the epoch periodically, for as long as it is awaited, and calls `on_change` after each change. Failures to
    /// read it are ignored, because the health check reports them.
    pub async fn follow<F, E>(&self, read: impl Fn() -> F, on_change: impl Fn())
    where
        F: Future<Output = Result<Uuid, E>>,
    {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            if let Ok(id) = read().await
                && self.set(id.into())
            {
                on_change();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_one_text_and_one_encoding() {
        let epoch = Epoch::from(Uuid::from_u128(0x1234 << 64 | 0x1));
        assert_eq!(epoch.to_string(), "0000000000001235");
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        assert_eq!(Epoch::from_bytes(epoch.to_bytes()), epoch);
        for invalid in ["", "1235", "000000000000123G", "+000000000001235", "00000000000012350", "000000000000ABCD"] {
            assert_eq!(Epoch::parse(invalid), None, "{invalid:?}");
        }
    }
}
