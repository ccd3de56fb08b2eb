//! TLS to servers that users name, such as the receivers of webhooks.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::BoxError;

use super::{client, failure, files::Paths, reload::Reloaded};
use crate::clock::Clock;

/// Opens TLS for HTTP/1.1 on existing connections. Servers must have a certificate of a trusted authority.
#[derive(Clone, Debug)]
pub struct WebTls(Reloaded<Arc<ClientConfig>>);

impl WebTls {
    /// Reads the trusted authorities from a file (PEM) or, without one, those that the system trusts.
    ///
    /// # Errors
    /// If there is no file, or it is unusable.
    pub async fn open(authorities: Option<PathBuf>, clock: &Clock) -> anyhow::Result<Self> {
        let authorities = authorities.or_else(|| openssl_probe::probe().cert_file);
        let authorities = authorities.context("the system has no file with trusted authorities")?;
        let paths = Paths { certificate: None, key: None, authorities: Some(authorities), revocations: None };
        let build = {
            let clock = clock.clone();
            move |files: &_| client::build(files, &clock, b"http/1.1")
        };
        Ok(Self(Reloaded::open("web", paths, clock, build).await?))
    }

    /// Opens TLS on a connection to a server with this host name or address.
    ///
    /// # Errors
    /// If the host is invalid, or the handshake fails.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, BoxError> {
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::clone(&self.0.current().config));
        connector.connect(name, stream).await.map_err(|error| failure::explain(error.into()))
    }
}
