//! The one place that draws random numbers.

use std::time::Duration;

use uuid::{Builder, Uuid, Variant, Version};

/// `N` bytes from the system's generator, fit for keys.
///
/// # Panics
/// If the system has no randomness: nothing secret may be made then.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system provides randomness");
    bytes
}

/// An id that none other has. Fit for telling things apart, not for secrets.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn id() -> Uuid {
    Builder::from_u128(fastrand::u128(..)).with_version(Version::Random).with_variant(Variant::RFC4122).into_uuid()
}

/// A duration between half of `about` and one and a half, so that those who wait for the same thing do not come back
/// all at once. Not fit for secrets.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws random numbers")]
pub fn jitter(about: Duration) -> Duration {
    about.mul_f64(0.5 + fastrand::f64())
}
