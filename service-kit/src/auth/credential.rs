//! Credentials with which services authenticate to auth-service.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use clap::Args;
use futures::future::{BoxFuture, ready};
use http::{HeaderMap, HeaderValue};
use tokio::{sync::watch, task::spawn_blocking};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};
use zeroize::Zeroizing;

use crate::{
    auth::{
        claims::{self, AccessClaims},
        key_source::{KeySource, Purpose},
        scope::Scope,
        token,
    },
    clock::Clock,
    ops::{
        config::TokenArgs,
        file_polling,
        secret_file::{self, Key},
    },
    trace::ServicePeers,
};

/// The role of services that verify tokens. The feed of revocations requires it.
pub const ROLE_VERIFIER: &str = "verifier";

/// The prefix of service tokens. It distinguishes them from access tokens and lets secret scanners find leaked ones.
pub const SERVICE_TOKEN_PREFIX: &str = "taskey_service_";

/// The header with the service token of a service that calls on behalf of a client; `authorization` carries the access
/// token of the client. With a service token of the scope `clients.forward`, the address in `x-forwarded-for` is
/// trusted.
pub const SERVICE_TOKEN_HEADER: &str = "x-taskey-service-token";

/// Returns the service token of a key.
#[must_use]
pub fn service_token(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(format!("{SERVICE_TOKEN_PREFIX}{}", *key.encode()))
}

/// How a verifier authenticates to auth-service.
#[derive(Clone, Debug)]
pub enum Credential {
    /// With an access token that it signs itself, because it has a signing key.
    SelfSigned {
        /// The source of the signing key.
        keys: Arc<KeySource>,
        /// The issuer and the audience of the token.
        names: TokenArgs,
        /// The clock for the times of the token.
        clock: Clock,
    },
    /// With a service token, in a file that only its owner may read.
    TokenFile(PathBuf),
    /// With the certificate of its connections, so that its calls contain no token.
    Certificate,
}

impl Credential {
    /// Returns the value of the `authorization` header, or `None` if the certificate of the connection is sufficient.
    /// Reads the file on each call, so that it can be replaced.
    ///
    /// # Errors
    /// If there is no signing key, or the file does not contain a token.
    pub async fn header(&self) -> anyhow::Result<Option<MetadataValue<Ascii>>> {
        let mut header: MetadataValue<_> = match self {
            Self::SelfSigned { keys, names, clock } => format!("Bearer {}", mint(keys, names, clock)?).parse()?,
            Self::TokenFile(file) => format!("Bearer {}", *read_token(file).await?).parse()?,
            Self::Certificate => return Ok(None),
        };
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// Returns a request with this credential.
    ///
    /// # Errors
    /// If [`header`](Self::header) fails.
    pub async fn sign<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(header) = self.header().await? {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

/// Reads a service token. Only printable ASCII is accepted, so that it can be sent in a header.
async fn read_token(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let path = file.to_owned();
    let text = spawn_blocking(move || secret_file::read(&path)).await??;
    let token = text.trim();
    let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(is_valid, "{} does not contain a service token", file.display());
    Ok(Zeroizing::new(token.to_owned()))
}

/// Signs an access token for this service.
fn mint(keys: &KeySource, token_args: &TokenArgs, clock: &Clock) -> anyhow::Result<String> {
    let now = clock.now();
    let claims = AccessClaims {
        id: clock.new_id(),
        user_id: clock.new_id(),
        session_id: clock.new_id(),
        roles: vec![ROLE_VERIFIER.to_owned()],
        scopes: Some([Scope::TokensVerify].into_iter().collect()),
        authentication: None,
        issued_at: now,
        expires_at: now + claims::MAX_LIFETIME,
        actors: Vec::new(),
    };
    token::sign(keys.current().context("there is no signing key yet")?.as_ref(), token_args, &claims)
}

/// The service token of a service that calls auth-service on behalf of clients.
#[derive(Args, Clone, Debug, Default)]
pub struct ServiceTokenArgs {
    /// File with a service token from `auth-service tokens issue-service --scope clients.forward`; must have mode 0600.
    /// With it, auth-service accepts the client addresses that this service forwards. Without it, all clients share the
    /// rate limits of this service's own address
    #[arg(long, env = "TASKEY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,

    /// The key of a service token that exists only in memory, if auth-service runs in the same process.
    #[arg(skip)]
    pub service_token: Option<Key>,
}

impl ServiceTokenArgs {
    /// Returns the service token, if one is configured.
    ///
    /// # Errors
    /// If the file cannot be read, is accessible to other users, or does not contain a token.
    pub async fn open(self) -> anyhow::Result<Option<ServiceToken>> {
        let (token, file) = match (self.service_token_file, self.service_token) {
            (Some(file), _) => (read_token(&file).await?, Some(file)),
            (None, Some(key)) => (service_token(&key), None),
            (None, None) => return Ok(None),
        };
        Ok(Some(ServiceToken { file, header: watch::Sender::new(sensitive_header(&token)?) }))
    }
}

/// The service token of this process. Its file is polled, so that a new token takes effect within seconds.
#[derive(Debug)]
pub struct ServiceToken {
    file: Option<PathBuf>,
    header: watch::Sender<HeaderValue>,
}

impl ServiceToken {
    /// Returns the value of the header [`SERVICE_TOKEN_HEADER`], marked as sensitive, so that logs do not show it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.borrow().clone()
    }

    /// Polls the file, if there is one, for as long as it is awaited. While the file is unusable, the last valid token
    /// remains in use.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        file_polling::poll("service tokens", || self.reload(file)).await;
    }

    async fn reload(&self, file: &Path) -> anyhow::Result<()> {
        self.header.send_replace(sensitive_header(&read_token(file).await?)?);
        Ok(())
    }
}

fn sensitive_header(token: &str) -> anyhow::Result<HeaderValue> {
    let mut header = HeaderValue::from_str(token)?;
    header.set_sensitive(true);
    Ok(header)
}

/// The gateway in the process of a service, if there is one: its traces are continued.
#[derive(Debug)]
pub struct LocalGateway(Key);

impl LocalGateway {
    /// Creates the gateway with this key.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self(key)
    }
}

impl ServicePeers for LocalGateway {
    fn have_service_token<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, bool> {
        let is_equal =
            |token: &HeaderValue| verify_slices_are_equal(token.as_bytes(), service_token(&self.0).as_bytes()).is_ok();
        Box::pin(ready(headers.get(SERVICE_TOKEN_HEADER).is_some_and(is_equal)))
    }
}

/// The keys with which a service verifies access tokens, and its credential for the feed of revocations. A program that
/// uses these settings has [`UpstreamTlsArgs`](crate::tls::UpstreamTlsArgs), too.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct VerifierArgs {
    /// File with the keys of access tokens, as a JWK Set (RFC 7517); must have mode 0600. Not needed if tokens are
    /// signed with EdDSA, because auth-service sends its public keys together with the revocations
    #[arg(long, env = "TASKEY_KEY_FILE", value_name = "FILE",
          required_unless_present_any = ["service_token_file", "upstream_cert_file"])]
    pub key_file: Option<PathBuf>,

    /// File with a service token from `auth-service tokens issue-service --scope tokens.verify`, which authenticates
    /// this service to auth-service; must have mode 0600. Not needed if the key file contains a signing key, or if
    /// auth-service accepts the certificate of this service (`tokens issue-service --san`)
    #[arg(long, env = "TASKEY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,
}

impl VerifierArgs {
    /// Returns the keys and the credential of this service: the service token, an access token that it signs itself, or
    /// its certificate, the first that is configured.
    ///
    /// # Errors
    /// If a file is unusable.
    pub async fn open(&self, token_args: &TokenArgs, clock: &Clock) -> anyhow::Result<(Arc<KeySource>, Credential)> {
        let purpose = if self.service_token_file.is_some() { Purpose::Verify } else { Purpose::Sign };
        let keys = match &self.key_file {
            Some(file) => KeySource::file(file, purpose, clock.clone())?,
            None => KeySource::feed(),
        };
        let keys = Arc::new(keys);
        let credential = match (&self.service_token_file, &self.key_file) {
            (Some(file), _) => Credential::TokenFile(file.clone()),
            (None, Some(_)) => {
                Credential::SelfSigned { keys: Arc::clone(&keys), names: token_args.clone(), clock: clock.clone() }
            }
            (None, None) => Credential::Certificate,
        };
        credential.header().await?;
        Ok((keys, credential))
    }
}
