//! The TLS of listeners.

use std::sync::Arc;

use clap::ValueEnum;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    certificate::{PeerCertificate, TlsInfo},
    failure::Failure,
    files::{Files, Identity},
    provider::{VERSIONS, provider, time},
    reload::{Built, Reloaded},
};
use crate::clock::Clock;

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// Certificates are not requested.
    None,
    /// Certificates are requested; clients without one are accepted, and invalid ones are refused.
    Optional,
    /// Clients without a valid certificate are refused.
    Required,
}

/// The TLS of the listeners of a program, which share a certificate.
#[derive(Clone, Debug)]
pub struct ServerTls(Reloaded<Configs>);

/// The configuration for each kind of listener.
pub(super) struct Configs {
    http2: Arc<ServerConfig>,
    http1_and_2: Arc<ServerConfig>,
}

impl ServerTls {
    pub(super) fn new(configs: Reloaded<Configs>) -> Self {
        Self(configs)
    }

    /// Establishes TLS on a connection, with the files as they are now. The caller limits the time.
    ///
    /// # Errors
    /// Why the handshake has failed, and the connection if it may still be open.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        accepts_http1: bool,
    ) -> Result<(TlsStream<TcpStream>, TlsInfo), (Failure, Option<TcpStream>)> {
        match is_plaintext(&stream).await {
            Ok(true) => return Err((Failure::plaintext(), Some(stream))),
            Ok(false) => {}
            Err(error) => return Err((Failure::new(&error), None)),
        }
        let Configs { http2, http1_and_2 } = &self.0.current().config;
        let config = if accepts_http1 { http1_and_2 } else { http2 };
        let accepted = TlsAcceptor::from(Arc::clone(config)).accept(stream).into_fallible().await;
        let stream = accepted.map_err(|(error, stream)| (Failure::new(&error), Some(stream)))?;
        let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let info = TlsInfo { peer: peer.map(PeerCertificate::new) };
        Ok((stream, info))
    }
}

/// The first byte of a TLS connection: the type of a handshake record (RFC 8446, section 5.1).
pub(crate) const HANDSHAKE_RECORD: u8 = 22;

/// Waits for the first byte, and reports whether it does not begin a TLS handshake.
async fn is_plaintext(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] != HANDSHAKE_RECORD),
    }
}

/// Builds the configurations from the files.
///
/// # Errors
/// If a file has invalid content, or the key is not that of the certificate.
pub(super) fn build(files: &Files, client_auth: ClientAuth, clock: &Clock) -> anyhow::Result<Built<Configs>> {
    let Some(Identity { chain, key, expire_time }) = files.identity()? else {
        anyhow::bail!("a server needs a certificate and its key");
    };
    let builder = ServerConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&VERSIONS)?
        .with_client_cert_verifier(verifier(files, client_auth)?);
    let mut config = builder.with_single_cert(chain, key).map_err(|error| files.explain_identity(error))?;
    if client_auth == ClientAuth::None {
        config.ticketer = Ticketer::new()?;
    } else {
        // The certificate of a client is not verified again when its session is resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    let with_protocols = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    let config = Configs { http2: with_protocols(&[b"h2"]), http1_and_2: with_protocols(&[b"h2", b"http/1.1"]) };
    Ok(Built { config, expire_time })
}

/// Returns the verifier of client certificates.
fn verifier(files: &Files, client_auth: ClientAuth) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let with_files = || -> anyhow::Result<ClientCertVerifierBuilder> {
        let authorities = files.authorities()?.into();
        let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider());
        // An authority rarely publishes a list of its own intermediates together with that of the clients.
        Ok(builder.with_crls(files.revocations()?).only_check_end_entity_revocation())
    };
    Ok(match client_auth {
        ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
        ClientAuth::Optional => with_files()?.allow_unauthenticated().build()?,
        ClientAuth::Required => with_files()?.build()?,
    })
}
