//! The settings of TLS.

use std::path::PathBuf;

use clap::Args;
use http::Uri;

use super::{
    client,
    dialer::Dialer,
    files::Paths,
    reload::Reloaded,
    server::{self, ClientAuth, ServerTls},
};
use crate::clock::Clock;

/// TLS of listeners.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// File with the certificate of this server and those of its issuers (PEM). With it, clients must use TLS. When one of
    /// the files for TLS changes, new connections use the new one within 5 s, or after SIGHUP at once
    #[arg(long, env = "TASKEY_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// File with the private key of the certificate (PEM); must have mode 0600, or 0440 if root owns it
    #[arg(long, env = "TASKEY_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,

    /// File with the certificates of the authorities that issue certificates for clients (PEM)
    #[arg(long, env = "TASKEY_TLS_CLIENT_CA_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Whether clients must have a certificate [default: required with --tls-client-ca-file, else none]
    #[arg(long, env = "TASKEY_TLS_CLIENT_AUTH", value_name = "MODE")]
    pub tls_client_auth: Option<ClientAuth>,

    /// File with the revocation lists of these authorities (PEM). Client certificates of an authority without a list are
    /// refused. Lists are used beyond their next update
    #[arg(long, env = "TASKEY_TLS_CRL_FILE", value_name = "FILE", requires = "tls_client_ca_file")]
    pub tls_crl_file: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files, and reads them again when they change. Returns `None` if TLS is not configured.
    ///
    /// # Errors
    /// If a file is unusable, or the settings contradict each other.
    pub async fn open(&self, clock: &Clock) -> anyhow::Result<Option<ServerTls>> {
        let Some((paths, client_auth)) = self.paths()? else { return Ok(None) };
        let build = {
            let clock = clock.clone();
            move |files: &_| server::build(files, client_auth, &clock)
        };
        Ok(Some(ServerTls::new(Reloaded::open("server", paths, clock, build).await?)))
    }

    /// Returns the files, and whether clients must have a certificate. Returns `None` if TLS is not configured.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub(super) fn paths(&self) -> anyhow::Result<Option<(Paths, ClientAuth)>> {
        let client_auth = self.client_auth()?;
        if self.tls_cert_file.is_none() {
            return Ok(None);
        }
        let paths = Paths {
            certificate: self.tls_cert_file.clone(),
            key: self.tls_key_file.clone(),
            authorities: self.tls_client_ca_file.clone().filter(|_| client_auth != ClientAuth::None),
            revocations: self.tls_crl_file.clone().filter(|_| client_auth != ClientAuth::None),
        };
        Ok(Some((paths, client_auth)))
    }

    fn client_auth(&self) -> anyhow::Result<ClientAuth> {
        let has_authorities = self.tls_client_ca_file.is_some();
        let default = if has_authorities { ClientAuth::Required } else { ClientAuth::None };
        let client_auth = self.tls_client_auth.unwrap_or(default);
        anyhow::ensure!(
            client_auth == ClientAuth::None || has_authorities,
            "--tls-client-auth needs --tls-client-ca-file, whose authorities issue the certificates of clients"
        );
        Ok(client_auth)
    }
}

/// TLS of connections to other services.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct UpstreamTlsArgs {
    /// File with the certificates of the authorities that issue the certificates of other services (PEM), for https URLs
    #[arg(long, env = "TASKEY_UPSTREAM_CA_FILE", value_name = "FILE")]
    pub upstream_ca_file: Option<PathBuf>,

    /// File with the certificate with which this service authenticates to others, and those of its issuers (PEM)
    #[arg(long, env = "TASKEY_UPSTREAM_CERT_FILE", value_name = "FILE",
          requires_all = ["upstream_ca_file", "upstream_key_file"])]
    pub upstream_cert_file: Option<PathBuf>,

    /// File with the private key of that certificate (PEM); must have mode 0600, or 0440 if root owns it
    #[arg(long, env = "TASKEY_UPSTREAM_KEY_FILE", value_name = "FILE", requires = "upstream_cert_file")]
    pub upstream_key_file: Option<PathBuf>,
}

impl UpstreamTlsArgs {
    /// Returns a dialer for these URLs. Reads the files, and reads them again when they change.
    ///
    /// # Errors
    /// If a file is unusable, or there is an `https` URL but no file with authorities.
    pub async fn open(&self, urls: impl IntoIterator<Item = &Uri>, clock: &Clock) -> anyhow::Result<Dialer> {
        if self.upstream_ca_file.is_none() {
            let needs_authorities = urls.into_iter().find(|url| url.scheme_str() == Some("https"));
            return match needs_authorities {
                None => Ok(Dialer::plaintext()),
                Some(url) => anyhow::bail!(
                    "{url} needs --upstream-ca-file, the authorities that issue the certificate of the service; those \
                     of the system are often in /etc/ssl/certs/ca-certificates.crt"
                ),
            };
        }
        let build = {
            let clock = clock.clone();
            move |files: &_| client::build(files, &clock, b"h2")
        };
        Ok(Dialer::new(Reloaded::open("upstream", self.paths(), clock, build).await?))
    }

    /// Returns the files.
    pub(super) fn paths(&self) -> Paths {
        Paths {
            certificate: self.upstream_cert_file.clone(),
            key: self.upstream_key_file.clone(),
            authorities: self.upstream_ca_file.clone(),
            revocations: None,
        }
    }
}
