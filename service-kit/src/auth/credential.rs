//! How a service that verifies tokens says who it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use http::HeaderValue;
use tokio::{sync::watch, task::spawn_blocking};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};
use zeroize::Zeroizing;

use crate::{
    auth::{
        claims::{self, AccessClaims},
        key_source::{KeySource, POLL_INTERVAL, Purpose},
        token,
    },
    clock::Clock,
    ops::{
        config::TokenArgs,
        secret_file::{self, Key},
    },
};

/// The role of a service that verifies tokens; the feed of revocations is open to it.
pub const ROLE_VERIFIER: &str = "verifier";

/// What a service token begins with, so that it is told from an access token, and found where it was leaked.
pub const SERVICE_TOKEN_PREFIX: &str = "taskey_service_";

/// Where a service that calls on behalf of somebody shows its own token; `authorization` bears the other's. Whom it
/// names in `x-forwarded-for` is then believed.
pub const SERVICE_TOKEN: &str = "x-taskey-service-token";

/// The service token of a key.
#[must_use]
pub fn service_token(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(format!("{SERVICE_TOKEN_PREFIX}{}", *key.encode()))
}

/// How a service that verifies tokens says who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// By an access token of its own making, since it holds a key that signs.
    Minted {
        /// The key.
        keys: Arc<KeySource>,
        /// What the token says of who made it and for whom.
        names: TokenArgs,
        /// The time.
        clock: Clock,
    },
    /// By a token that it was given, in a file that nobody else may read.
    Given(PathBuf),
}

impl Credential {
    /// Returns the value of the `authorization` header. A file is read each time, so that it can be replaced.
    ///
    /// # Errors
    /// If the key cannot sign, or there is no token in the file.
    pub async fn header(&self) -> anyhow::Result<MetadataValue<Ascii>> {
        let mut header: MetadataValue<_> = match self {
            Self::Minted { keys, names, clock } => format!("Bearer {}", mint(keys, names, clock)?).parse()?,
            Self::Given(file) => format!("Bearer {}", *read_token(file).await?).parse()?,
        };
        header.set_sensitive(true);
        Ok(header)
    }

    /// Returns a request with this credential.
    ///
    /// # Errors
    /// Those of [`header`](Self::header).
    pub async fn sign<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.header().await?);
        Ok(request)
    }
}

/// Reads a service token. It fits into a header.
async fn read_token(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let path = file.to_owned();
    let text = spawn_blocking(move || secret_file::read(&path)).await??;
    let token = text.trim();
    let good = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(good, "{} does not hold a token", file.display());
    Ok(Zeroizing::new(token.to_owned()))
}

fn mint(keys: &KeySource, names: &TokenArgs, clock: &Clock) -> anyhow::Result<String> {
    let now = clock.now();
    let claims = AccessClaims {
        id: clock.new_id(),
        user_id: clock.new_id(),
        session_id: clock.new_id(),
        roles: vec![ROLE_VERIFIER.to_owned()],
        issued_at: now,
        expires_at: now + claims::MAX_LIFETIME,
    };
    token::sign(keys.current().context("there is no key yet")?.as_ref(), names, &claims)
}

/// By what auth-service knows a service that calls on behalf of others.
#[derive(Args, Clone, Debug, Default)]
pub struct ServiceTokenArgs {
    /// File with a service token from `auth-service tokens issue-service`; must have mode 0600. With it, auth-service
    /// accepts the client addresses that this service forwards. Without it, all clients share the rate limits of this
    /// service's own address
    #[arg(long, env = "TASKEY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,

    /// The key of a token that is known in this process alone, where both run in it.
    #[arg(skip)]
    pub service_token: Option<Key>,
}

impl ServiceTokenArgs {
    /// The token, if there is one.
    ///
    /// # Errors
    /// If its file cannot be read, others may read it too, or it holds no token.
    pub async fn open(self) -> anyhow::Result<Option<ServiceToken>> {
        let (token, file) = match (self.service_token_file, self.service_token) {
            (Some(file), _) => (read_token(&file).await?, Some(file)),
            (None, Some(key)) => (service_token(&key), None),
            (None, None) => return Ok(None),
        };
        Ok(Some(ServiceToken { file, header: watch::Sender::new(sensitive(&token)?) }))
    }
}

/// The service token of this process. A file is followed, so that another token in it counts within seconds.
#[derive(Debug)]
pub struct ServiceToken {
    file: Option<PathBuf>,
    header: watch::Sender<HeaderValue>,
}

impl ServiceToken {
    /// The value of the header [`SERVICE_TOKEN`], which logs do not show.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.borrow().clone()
    }

    /// Follows the file, if there is one, for as long as it is awaited. While it cannot be used the last good token
    /// stays in force.
    pub async fn follow(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut failing = false;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            match read_token(file).await.and_then(|token| sensitive(&token)) {
                Ok(header) => {
                    self.header.send_replace(header);
                    failing = false;
                }
                Err(error) if !failing => {
                    tracing::error!(error = format!("{error:#}"), "the last good service token stays in force");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }
}

fn sensitive(token: &str) -> anyhow::Result<HeaderValue> {
    let mut header = HeaderValue::from_str(token)?;
    header.set_sensitive(true);
    Ok(header)
}

/// How a service verifies access tokens, and says who it is when it follows revocations.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct VerifierArgs {
    /// JWK Set (RFC 7517) with the keys of access tokens; the file must have mode 0600. Not needed if tokens are signed
    /// with EdDSA: the public keys are received with the revocations
    #[arg(long, env = "TASKEY_KEY_FILE", value_name = "FILE", required_unless_present = "service_token_file")]
    pub key_file: Option<PathBuf>,

    /// File with a service token from `auth-service tokens issue-service`, which authenticates this service to
    /// auth-service; must have mode 0600. Not needed if the key file contains a signing key
    #[arg(long, env = "TASKEY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,
}

impl VerifierArgs {
    /// The keys, and what this service shows.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub async fn open(&self, names: &TokenArgs, clock: &Clock) -> anyhow::Result<(Arc<KeySource>, Credential)> {
        let purpose = if self.service_token_file.is_some() { Purpose::Verify } else { Purpose::Sign };
        let keys = match &self.key_file {
            Some(file) => KeySource::file(file, purpose, clock.clone())?,
            None => KeySource::feed(),
        };
        let keys = Arc::new(keys);
        let credential = match &self.service_token_file {
            Some(file) => Credential::Given(file.clone()),
            None => Credential::Minted { keys: Arc::clone(&keys), names: names.clone(), clock: clock.clone() },
        };
        credential.header().await?;
        Ok((keys, credential))
    }
}
