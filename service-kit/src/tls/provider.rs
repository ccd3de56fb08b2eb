//! What all TLS of a program has in common: cryptography, protocol versions and time.

use std::{sync::Arc, time::Duration};

use rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::UnixTime,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};

use crate::clock::Clock;

/// The supported versions of TLS.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Returns the cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    default_provider().into()
}

/// Returns the time at which certificates are verified: that of the clock.
pub(super) fn time(clock: &Clock) -> Arc<dyn TimeProvider> {
    Arc::new(ClockTime(clock.clone()))
}

#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
