//! Checks the files of TLS, for the command `doctor`.

use std::{path::Path, time::Duration};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{
    args::{TlsArgs, UpstreamTlsArgs},
    certificate::{expire_time, start_time},
    client,
    files::{Files, Paths},
    provider::provider,
    reload::EXPIRY_WARNING,
    server,
};
use crate::{
    clock::{Clock, Timestamp},
    ops::doctor::{Finding, in_days},
};

/// How long before a certificate expires the check fails.
const EXPIRY_FAILURE: Duration = Duration::from_secs(3 * 86_400);

impl TlsArgs {
    /// Checks the files of this server and the validity of their certificates. There are no findings without TLS.
    #[must_use]
    pub fn check(&self, clock: &Clock) -> Vec<Finding> {
        let (paths, client_auth) = match self.paths() {
            Ok(Some(paths)) => paths,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![Finding::from_error("tls", &error, "--tls-client-ca-file FILE")],
        };
        let side = Side {
            name: "tls",
            flags: "--tls-cert-file, --tls-key-file and --tls-client-ca-file",
            paths,
            usage: KeyUsage::server_auth(),
            now: clock.now(),
        };
        side.check(|files| server::build(files, client_auth, clock).map(drop))
    }
}

impl UpstreamTlsArgs {
    /// Checks the files for connections to other services, and the validity of their certificates. There are no findings
    /// without files.
    #[must_use]
    pub fn check(&self, clock: &Clock) -> Vec<Finding> {
        if self.upstream_ca_file.is_none() {
            return Vec::new();
        }
        let (paths, usage) = (self.paths(), KeyUsage::client_auth());
        let side = Side {
            name: "upstream_tls",
            flags: "--upstream-ca-file, --upstream-cert-file and --upstream-key-file",
            paths,
            usage,
            now: clock.now(),
        };
        side.check(|files| client::build(files, clock, b"h2").map(drop))
    }
}

/// One side of TLS, while it is checked.
struct Side {
    /// The name of its checks.
    name: &'static str,
    /// Its flags.
    flags: &'static str,
    paths: Paths,
    /// What its certificate is used for.
    usage: KeyUsage,
    now: Timestamp,
}

impl Side {
    /// Checks the files. `build` fails if they are unusable.
    fn check(&self, build: impl Fn(&Files) -> anyhow::Result<()>) -> Vec<Finding> {
        let usable = self.paths.read().and_then(|files| {
            build(&files)?;
            Ok((files.chain()?, files.authority_certificates()?))
        });
        let (chain, authorities) = match usable {
            Ok(certificates) => certificates,
            Err(error) => {
                let fix = format!("replace the files of {}", self.flags);
                return vec![Finding::from_error(self.name, &error, fix)];
            }
        };
        let certificate = self.paths.certificate.as_deref();
        let chain = certificate.map(|path| [self.check_chain(path, &chain), self.check_validity(path, &chain)]);
        let authorities = self.paths.authorities.as_deref().map(|path| self.check_authorities(path, &authorities));
        chain.into_iter().flatten().chain(authorities).collect()
    }

    /// Checks that each certificate in the chain was issued by the next one, and that the first one may be used.
    fn check_chain(&self, path: &Path, chain: &[CertificateDer<'_>]) -> Finding {
        let name = path.display();
        match verify_chain(chain, self.usage, self.now) {
            // The next check reports expired certificates.
            Ok(()) | Err(Error::CertExpired { .. } | Error::CertNotValidYet { .. }) => Finding::ok(
                self.name,
                format!("{name} and its key can be used; certificates in its chain: {}", chain.len()),
            ),
            Err(error) => Finding::failed(
                self.name,
                format!("the certificates in {name} are not a chain in which the next one is the issuer: {error}"),
                format!("write the certificate of this program, and then those of its issuers, to {name}"),
            ),
        }
    }

    /// Checks when the certificates of the chain expire.
    fn check_validity(&self, path: &Path, chain: &[CertificateDer<'_>]) -> Finding {
        let name = format!("{}_expiry", self.name);
        let fix = format!("replace {} and its key; running programs use new files within 5 s", path.display());
        let start = chain.iter().filter_map(|certificate| start_time(certificate).ok()).max();
        if let Some(start) = start.filter(|start| *start > self.now) {
            return Finding::failed(name, format!("{} is not valid before {start}", path.display()), fix);
        }
        match chain.iter().filter_map(|certificate| expire_time(certificate).ok()).min() {
            Some(expire_time) => self.describe_expiry(name, &path.display().to_string(), expire_time, fix),
            None => Finding::failed(name, format!("{} has no readable expire time", path.display()), fix),
        }
    }

    /// Checks when the trusted authorities expire.
    fn check_authorities(&self, path: &Path, authorities: &[CertificateDer<'_>]) -> Finding {
        let name = format!("{}_authorities", self.name);
        let fix = format!("add the new certificates of the authorities to {}", path.display());
        let expire_times: Vec<_> = authorities.iter().filter_map(|certificate| expire_time(certificate).ok()).collect();
        let expired = expire_times.iter().filter(|time| **time <= self.now).count();
        match (expired, expire_times.iter().min()) {
            (1.., _) if expired < expire_times.len() => {
                let total = authorities.len();
                Finding::warning(
                    name,
                    format!("{expired} of {total} authorities in {} have expired", path.display()),
                    fix,
                )
            }
            (_, Some(first)) => self.describe_expiry(name, &path.display().to_string(), *first, fix),
            (_, None) => Finding::ok(name, format!("authorities in {}: {}", path.display(), authorities.len())),
        }
    }

    fn describe_expiry(&self, name: String, file: &str, expire_time: Timestamp, fix: String) -> Finding {
        let left = expire_time.since(self.now);
        let days = in_days(left);
        if expire_time <= self.now {
            Finding::failed(name, format!("{file} expired at {expire_time}"), fix)
        } else if left < EXPIRY_FAILURE {
            Finding::failed(name, format!("{file} expires in {days}, at {expire_time}"), fix)
        } else if left < EXPIRY_WARNING {
            Finding::warning(name, format!("{file} expires in {days}, at {expire_time}"), fix)
        } else {
            Finding::ok(name, format!("{file} expires in {days}"))
        }
    }
}

/// Verifies that the last certificate of a chain has issued the others, and that the first one may be used. The issuer of
/// a single certificate is not in the file.
fn verify_chain(chain: &[CertificateDer<'_>], usage: KeyUsage, now: Timestamp) -> Result<(), Error> {
    let Some((first, issuers)) = chain.split_first() else { return Ok(()) };
    let anchors: Vec<_> = issuers.last().map(anchor_from_trusted_cert).transpose()?.into_iter().collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_seconds()).unwrap_or_default()));
    let algorithms = provider().signature_verification_algorithms.all;
    let first = EndEntityCert::try_from(first)?;
    match first.verify_for_usage(algorithms, &anchors, issuers, now, usage, None, None) {
        Err(error) if !issuers.is_empty() || matches!(error, Error::RequiredEkuNotFoundContext(_)) => Err(error),
        _ => Ok(()),
    }
}
