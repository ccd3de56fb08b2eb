//! Reads certificates, private keys and revocation lists.

use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest::{self, Digest};
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use zeroize::Zeroizing;

use super::certificate::expire_time;
use crate::{clock::Timestamp, ops::secret_file};

/// The files of one side of TLS.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// The chain of this program, which begins with its own certificate.
    pub(super) certificate: Option<PathBuf>,
    /// The private key of that certificate.
    pub(super) key: Option<PathBuf>,
    /// The trusted authorities.
    pub(super) authorities: Option<PathBuf>,
    /// Their revocation lists.
    pub(super) revocations: Option<PathBuf>,
}

/// The content of the files.
pub(super) struct Files {
    paths: Paths,
    certificate: Option<Vec<u8>>,
    key: Option<Zeroizing<String>>,
    authorities: Option<Vec<u8>>,
    revocations: Option<Vec<u8>>,
}

/// The certificate of this program.
pub(super) struct Identity {
    /// The certificate, and those of its issuers.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub(super) key: PrivateKeyDer<'static>,
    /// When it expires.
    pub(super) expire_time: Option<Timestamp>,
}

impl Paths {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read, is too large, or contains a key that other users can read.
    pub(super) fn read(&self) -> anyhow::Result<Files> {
        let public = |path: &Option<PathBuf>| path.as_deref().map(secret_file::read_public).transpose();
        Ok(Files {
            certificate: public(&self.certificate)?,
            key: self.key.as_deref().map(secret_file::read).transpose()?,
            authorities: public(&self.authorities)?,
            revocations: public(&self.revocations)?,
            paths: self.clone(),
        })
    }
}

impl Files {
    /// Returns a hash of the content, by which changes are detected. File systems do not report all of them: Kubernetes
    /// replaces a symbolic link to the directory of the file.
    pub(super) fn digest(&self) -> Digest {
        let key = self.key.as_ref().map(|key| key.as_bytes());
        let mut context = digest::Context::new(&digest::SHA256);
        for content in [self.certificate.as_deref(), key, self.authorities.as_deref(), self.revocations.as_deref()] {
            let content = content.unwrap_or_default();
            context.update(&content.len().to_le_bytes());
            context.update(content);
        }
        context.finish()
    }

    /// Returns the certificate and the private key of this program, if they are configured.
    ///
    /// # Errors
    /// If a file does not contain them.
    pub(super) fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let Some(key) = &self.key else { return Ok(None) };
        let chain = self.chain()?;
        let path = self.paths.certificate.as_deref();
        let expire_time = chain.first().map(expire_time).transpose().with_context(|| name(path))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| match error {
            pem::Error::NoItemsFound => anyhow::anyhow!("it contains no private key, or an encrypted one"),
            // The error does not quote the key.
            error => error.into(),
        });
        let key = key.with_context(|| name(self.paths.key.as_deref()))?;
        Ok(Some(Identity { chain, key, expire_time }))
    }

    /// Returns the certificate of this program, and those of its issuers. There are none if the file is not configured.
    ///
    /// # Errors
    /// If the file contains none, or an invalid one.
    pub(super) fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        parse_certificates(self.certificate.as_deref(), self.paths.certificate.as_deref())
    }

    /// Returns the trusted authorities.
    ///
    /// # Errors
    /// If the file contains none, or an invalid one.
    pub(super) fn authorities(&self) -> anyhow::Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for authority in self.authority_certificates()? {
            store.add(authority).with_context(|| name(self.paths.authorities.as_deref()))?;
        }
        Ok(store)
    }

    /// Returns the certificates of the trusted authorities. There are none if the file is not configured.
    ///
    /// # Errors
    /// If the file contains none, or an invalid one.
    pub(super) fn authority_certificates(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        parse_certificates(self.authorities.as_deref(), self.paths.authorities.as_deref())
    }

    /// Returns the revocation lists. There are none if the file is not configured.
    ///
    /// # Errors
    /// If the file contains none, or an invalid one.
    pub(super) fn revocations(&self) -> anyhow::Result<Vec<CertificateRevocationListDer<'static>>> {
        match &self.revocations {
            Some(lists) => parse_all(lists, self.paths.revocations.as_deref(), "revocation list"),
            None => Ok(Vec::new()),
        }
    }

    /// Adds the file with the certificate of this program to an error.
    pub(super) fn explain_identity(&self, error: rustls::Error) -> anyhow::Error {
        let certificate = name(self.paths.certificate.as_deref());
        match error {
            rustls::Error::InconsistentKeys(_) => {
                anyhow::anyhow!(
                    "the certificate in {certificate} has another key than {}",
                    name(self.paths.key.as_deref())
                )
            }
            error => anyhow::Error::from(error).context(certificate),
        }
    }
}

fn name(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// Parses the certificates of a file, if it is configured.
fn parse_certificates(pem: Option<&[u8]>, path: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    pem.map_or(Ok(Vec::new()), |pem| parse_all(pem, path, "certificate"))
}

/// Parses all items of a kind in a PEM file. Other items are ignored.
fn parse_all<T: PemObject>(pem: &[u8], path: Option<&Path>, kind: &str) -> anyhow::Result<Vec<T>> {
    let items: Vec<_> = T::pem_slice_iter(pem).collect::<Result<_, _>>().with_context(|| name(path))?;
    anyhow::ensure!(!items.is_empty(), "{} contains no {kind} in PEM format", name(path));
    Ok(items)
}
