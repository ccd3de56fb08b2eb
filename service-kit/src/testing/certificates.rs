//! Certificates for tests: authorities, and what they issue.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};

use crate::clock::Clock;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Current,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    Future,
    /// Now, for this many days and an hour.
    Days(u64),
}

/// An authority that issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate, and its private key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate in PEM format.
    pub certificate: String,
    /// The private key in PEM format.
    pub key: String,
    serial_number: u64,
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Panics
    /// If cryptography fails.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, key()).expect("a self-signed certificate"))
    }

    /// Returns its certificate in PEM format.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// Writes its certificate to `<name>.pem`, and returns the path.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name).with_extension("pem");
        fs::write(&path, self.pem()).expect("written");
        path
    }

    /// Issues a certificate for servers and clients with these names: hosts, addresses, or URIs. The first one is also the
    /// common name.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, Validity::Current)
    }

    /// Issues a certificate with this validity.
    ///
    /// # Panics
    /// If a name is invalid.
    #[must_use]
    pub fn issue_for(&self, names: &[&str], validity: Validity) -> Issued {
        let (key, serial_number) = (key(), next_serial_number());
        let certificate = params(names, validity, serial_number).signed_by(&key, &self.0).expect("signed");
        Issued::new(certificate.der(), &key, serial_number)
    }

    /// Returns a list that revokes these certificates, in PEM format.
    ///
    /// # Panics
    /// If cryptography fails.
    #[must_use]
    pub fn revoke(&self, revoked: &[&Issued]) -> String {
        let revoked_certs = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial_number),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2020, 2, 1),
            crl_number: SerialNumber::from(next_serial_number()),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        pem("X509 CRL", list.signed_by(&self.0).expect("signed").der())
    }
}

impl Issued {
    /// Creates a certificate that no authority has issued.
    ///
    /// # Panics
    /// If a name is invalid.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let (key, serial_number) = (key(), next_serial_number());
        let certificate = params(names, Validity::Current, serial_number).self_signed(&key).expect("signed");
        Self::new(certificate.der(), &key, serial_number)
    }

    fn new(certificate: &[u8], key: &KeyPair, serial_number: u64) -> Self {
        Self {
            certificate: pem("CERTIFICATE", certificate),
            key: pem("PRIVATE KEY", key.serialized_der()),
            serial_number,
        }
    }

    /// Writes the certificate to `<name>.crt` and the key to `<name>.key`, and returns the paths. Existing files are
    /// replaced atomically.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> [PathBuf; 2] {
        let [certificate, key] = ["crt", "key"].map(|extension| folder.join(name).with_extension(extension));
        replace(&key, &self.key, 0o600);
        replace(&certificate, &self.certificate, 0o644);
        [certificate, key]
    }
}

/// Replaces a file atomically.
///
/// # Panics
/// If it cannot be written.
pub fn replace(path: &Path, content: &str, mode: u32) {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content).expect("written");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).expect("changed");
    fs::rename(&temporary, path).expect("renamed");
}

fn params(names: &[&str], validity: Validity, serial_number: u64) -> CertificateParams {
    let (uris, hosts): (Vec<_>, Vec<_>) =
        names.iter().map(|name| (*name).to_owned()).partition(|name| name.contains("://"));
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or_default());
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII"))));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial_number));
    match validity {
        Validity::Current => {}
        Validity::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Validity::Future => params.not_before = date_time_ymd(4000, 1, 1),
        Validity::Days(days) => {
            let seconds = u64::try_from(Clock::system().now().as_seconds()).expect("after 1970") + days * 86_400 + 3600;
            params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        }
    }
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn next_serial_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
