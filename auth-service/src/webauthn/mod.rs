//! Verifies the responses of passkeys (W3C Web Authentication Level 3). Pure functions: the caller passes the expected
//! challenge and the stored credential.
//!
//! Attestation is not verified, so that any authenticator can be used: `none` is requested, and self attestation, which
//! clients may pass on, is accepted (section 5.1.3, step 22 of the algorithm).

pub mod assertion;
pub mod authenticator_data;
pub mod cbor;
pub mod client_data;
pub mod cose;
pub mod options;
pub mod registration;
pub mod rejection;
pub mod relying_party;
pub mod response;
#[cfg(test)]
mod vectors;
