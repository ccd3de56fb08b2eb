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
    let end_of_time = UnixTime::since_unix_epoch(Duration::MAX);
    let certificate = EndEntityCert::try_from(certificate).context("the certificate is not well-formed")?;
    let (provider, usage) = (provider(), KeyUsage::server_auth());
    let algorithms = provider.signature_verification_algorithms.all;
    match certificate.verify_for_usage(algorithms, &[], &[], end_of_time, usage, None, None).map(|_| ()) {
        Err(Error::CertExpired { not_after, .. }) => {
            Ok(Timestamp::from_seconds(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX)))
        }
        other => Err(anyhow::anyhow!("the expire time of the certificate cannot be read: {other:?}")),
    }
}
