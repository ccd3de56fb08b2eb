//! Why a TLS handshake has failed, in the words of an operator.

use std::{error::Error, fmt, io, net::SocketAddr};

use rustls::{CertificateError, PeerIncompatible};
use tokio::time::Instant;
use tower::BoxError;

use crate::ops::log_limit::LogLimit;

/// Why a handshake has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The client has disconnected or took too long.
    Disconnected,
    /// The client sent plaintext to a port with TLS.
    Plaintext,
    /// The client sent TLS to a port without TLS.
    UnexpectedTls,
    /// The client has no certificate.
    CertificateMissing,
    /// The certificate of the client has expired.
    CertificateExpired,
    /// The certificate of the client was revoked.
    CertificateRevoked,
    /// The certificate of the client is invalid for another reason.
    CertificateInvalid,
    /// Client and server support no common version, cipher suite or application protocol.
    Incompatible,
    /// The client has refused the certificate of the server.
    RefusedByClient,
    /// Another reason.
    Other,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Disconnected, "disconnected"),
    (Kind::Plaintext, "plaintext"),
    (Kind::UnexpectedTls, "unexpected_tls"),
    (Kind::CertificateMissing, "certificate_missing"),
    (Kind::CertificateExpired, "certificate_expired"),
    (Kind::CertificateRevoked, "certificate_revoked"),
    (Kind::CertificateInvalid, "certificate_invalid"),
    (Kind::Incompatible, "incompatible"),
    (Kind::RefusedByClient, "refused_by_client"),
    (Kind::Other, "other"),
];

/// A failed handshake of a client.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: Kind,
    detail: String,
}

impl Failure {
    /// Explains an error of a handshake.
    pub(super) fn new(error: &io::Error) -> Self {
        let (kind, detail) = match rustls_error(error) {
            None => (Kind::Disconnected, error.to_string()),
            Some(error) => (kind(error), describe(error, "client")),
        };
        Self { kind, detail }
    }

    /// Returns the failure of a client that sent plaintext.
    pub(super) fn plaintext() -> Self {
        let detail = "the client sent plaintext to a port with TLS; it may use http:// instead of https://";
        Self { kind: Kind::Plaintext, detail: detail.to_owned() }
    }

    /// Returns the failure of a client that sent TLS to a port without TLS.
    pub(crate) fn unexpected_tls() -> Self {
        let detail = "the client sent TLS to a port without TLS; it may use https:// instead of http://";
        Self { kind: Kind::UnexpectedTls, detail: detail.to_owned() }
    }

    /// Reports whether the client sent plaintext.
    pub(crate) fn is_plaintext(&self) -> bool {
        self.kind == Kind::Plaintext
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Logs the failed handshakes of a listener: each kind at most every 10 s.
#[derive(Debug, Default)]
pub(crate) struct FailureLog([LogLimit; KINDS.len()]);

impl FailureLog {
    pub(crate) fn report(&self, listener: &str, peer: SocketAddr, failure: &Failure) {
        let position = KINDS.iter().position(|(kind, _)| *kind == failure.kind).unwrap_or_default();
        let reason = KINDS[position].1;
        metrics::counter!("taskey_tls_handshake_failures_total", "reason" => reason).increment(1);
        if failure.kind == Kind::Disconnected {
            // Port scanners and health checks do this all the time.
            tracing::debug!(listener, %peer, error = %failure, "a TLS handshake has failed");
        } else if let Some(omitted) = self.0[position].admit(Instant::now()) {
            tracing::warn!(listener, %peer, reason, omitted, error = %failure, "a TLS handshake has failed");
        }
    }
}

/// Replaces the error of a handshake with a server by an explanation.
pub(super) fn explain(error: BoxError) -> BoxError {
    match rustls_error(&*error).map(|error| describe(error, "server")) {
        Some(detail) => io::Error::new(io::ErrorKind::InvalidData, detail).into(),
        None => error,
    }
}

/// Returns the error of rustls in an error. `io::Error::source` skips the error that it contains.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &'a (dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn kind(error: &rustls::Error) -> Kind {
    use CertificateError::{Expired, ExpiredContext, Revoked};
    match error {
        rustls::Error::NoCertificatesPresented => Kind::CertificateMissing,
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => Kind::CertificateExpired,
        rustls::Error::InvalidCertificate(Revoked) => Kind::CertificateRevoked,
        rustls::Error::InvalidCertificate(_) => Kind::CertificateInvalid,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => Kind::Incompatible,
        rustls::Error::AlertReceived(_) => Kind::RefusedByClient,
        _ => Kind::Other,
    }
}

/// Describes an error. `peer` is the other side.
fn describe(error: &rustls::Error, peer: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate of the {peer} {}", describe_certificate(error))
        }
        rustls::Error::NoCertificatesPresented => format!("the {peer} has no certificate"),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Clients without TLS 1.2 do not have this extension.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => format!("the {peer} does not support TLS 1.2 or 1.3"),
        rustls::Error::NoApplicationProtocol => {
            format!("the {peer} supports none of the application protocols (ALPN), such as h2")
        }
        rustls::Error::AlertReceived(alert) => format!("the {peer} refused the connection: {alert:?}"),
        rustls::Error::InvalidMessage(_) if peer == "server" => {
            format!("the {peer} does not use TLS on this port, or sent an invalid message: {error}")
        }
        error => error.to_string(),
    }
}

fn describe_certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet".to_owned(),
        E::Revoked => "was revoked".to_owned(),
        E::UnknownIssuer => "was not issued by a trusted authority".to_owned(),
        E::UnknownRevocationStatus => "was issued by an authority without a revocation list".to_owned(),
        E::NotValidForName => "is for another host".to_owned(),
        E::NotValidForNameContext { expected, presented } => {
            // Each is formatted as `DnsName("example.com")`.
            let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            format!("is for {}, not for {}", names.join(", "), expected.to_str())
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "may not be used for this side of TLS".to_owned(),
        error => format!("is invalid: {error}"),
    }
}
