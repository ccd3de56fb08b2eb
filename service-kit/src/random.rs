//! The only module that generates random numbers.

use std::time::Duration;

use uuid::{Builder, Uuid, Variant, Version};

/// Returns `N` bytes from the system's random number generator, suitable for keys.
///
/// # Panics
/// If the system provides no randomness, because no secret can be generated then.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system provides randomness");
    bytes
}

/// Returns a random `UUIDv4`. It is unique, but not suitable as a secret.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn id() -> Uuid {
    Builder::from_u128(fastrand::u128(..)).with_version(Version::Random).with_variant(Variant::RFC4122).into_uuid()
}

/// Returns a random duration from 0.5 to 1.5 times `mean`, so that clients do not all retry at the same time. Not
/// suitable for secrets.
#[must_use]
pub fn jitter(mean: Duration) -> Duration {
    vary(mean, 0.5)
}

/// Returns a random duration that differs from `mean` by at most this fraction. Not suitable for secrets.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn vary(mean: Duration, fraction: f64) -> Duration {
    mean.mul_f64(1.0 + fraction * (2.0 * fastrand::f64() - 1.0))
}
