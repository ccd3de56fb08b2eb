//! The TLS of connections to other services.

use std::sync::Arc;

use rustls::ClientConfig;

use super::{
    files::{Files, Identity},
    provider::{VERSIONS, provider, time},
    reload::Built,
};
use crate::clock::Clock;

/// Builds the configuration from the files. `protocol` is the name of the protocol over TLS (ALPN).
///
/// # Errors
/// If a file has invalid content, or the key is not that of the certificate.
pub(super) fn build(files: &Files, clock: &Clock, protocol: &[u8]) -> anyhow::Result<Built<Arc<ClientConfig>>> {
    let builder = ClientConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&VERSIONS)?
        .with_root_certificates(files.authorities()?);
    let (mut config, expire_time) = match files.identity()? {
        Some(Identity { chain, key, expire_time }) => {
            let config = builder.with_client_auth_cert(chain, key);
            (config.map_err(|error| files.explain_identity(error))?, expire_time)
        }
        None => (builder.with_no_client_auth(), None),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Built { config: Arc::new(config), expire_time })
}
