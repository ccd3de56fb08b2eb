//! The names and the validity of certificates.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::provider::provider;
use crate::clock::Timestamp;

/// Maximum number of names that are read from a certificate.
const MAX_NAMES: usize = 100;

/// The verified certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    names: Arc<[String]>,
}

/// The TLS of a connection. Servers add it to the extensions of each request that was received over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The verified certificate of the client, if it has one.
    pub peer: Option<PeerCertificate>,
}

impl PeerCertificate {
    /// Reads the certificate of a client.
    pub(super) fn new(certificate: &CertificateDer<'_>) -> Self {
        let names = EndEntityCert::try_from(certificate).map(|certificate| {
            let dns = certificate.valid_dns_names().map(str::to_ascii_lowercase);
            dns.chain(certificate.valid_uri_names().map(str::to_owned)).take(MAX_NAMES).collect()
        });
        // A certificate that was verified can be parsed.
        Self { names: names.unwrap_or_else(|_| Arc::from([])) }
    }

    /// Returns its subject alternative names: URIs, and DNS names in lower case.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Returns when a certificate expires. webpki reports it in the error of a verification at the end of time.
///
/// # Errors
/// If it is not a valid certificate.
pub(super) fn expire_time(certificate: &CertificateDer<'_>) -> anyhow::Result<Timestamp> {
    match verify_at(UnixTime::since_unix_epoch(Duration::MAX), certificate)? {
        Err(Error::CertExpired { not_after, .. }) => Ok(to_timestamp(not_after)),
        other => Err(anyhow::anyhow!("the expire time of the certificate cannot be read: {other:?}")),
    }
}

/// Returns the time before which a certificate is not valid. webpki reports it in the error of a verification at the
/// beginning of time.
///
/// # Errors
/// If it is not a valid certificate, or has been valid since 1970.
pub(super) fn start_time(certificate: &CertificateDer<'_>) -> anyhow::Result<Timestamp> {
    match verify_at(UnixTime::since_unix_epoch(Duration::ZERO), certificate)? {
        Err(Error::CertNotValidYet { not_before, .. }) => Ok(to_timestamp(not_before)),
        other => Err(anyhow::anyhow!("the time from which the certificate is valid cannot be read: {other:?}")),
    }
}

/// Verifies a certificate without trusted authorities. This always fails; errors of the time have precedence.
fn verify_at(time: UnixTime, certificate: &CertificateDer<'_>) -> anyhow::Result<Result<(), Error>> {
    let certificate = EndEntityCert::try_from(certificate).context("the certificate is not well-formed")?;
    let (provider, usage) = (provider(), KeyUsage::server_auth());
    let algorithms = provider.signature_verification_algorithms.all;
    Ok(certificate.verify_for_usage(algorithms, &[], &[], time, usage, None, None).map(|_| ()))
}

fn to_timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
