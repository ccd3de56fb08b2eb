//! How a service that verifies tokens says who it is.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use tokio::task::spawn_blocking;
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    clock::Clock,
    config::TokenArgs,
    key_source::{KeySource, Purpose},
    secret_file,
    token::{self, Grant},
};

/// The role of a service that verifies tokens; the feed of revocations is open to it.
pub const ROLE_VERIFIER: &str = "verifier";

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
    /// The value of the `authorization` header. A file is read anew each time, so that a new token in it counts.
    ///
    /// # Errors
    /// If the key cannot sign, or there is no token in the file.
    pub async fn header(&self) -> anyhow::Result<MetadataValue<Ascii>> {
        let mut header: MetadataValue<_> = match self {
            Self::Minted { keys, names, clock } => format!("Bearer {}", mint(keys, names, clock)?).parse()?,
            Self::Given(file) => {
                let path = file.clone();
                let token = spawn_blocking(move || secret_file::read(&path)).await??;
                let header = format!("Bearer {}", token.trim()).parse().ok().filter(|_| !token.trim().is_empty());
                header.with_context(|| format!("{} does not hold a token", file.display()))?
            }
        };
        header.set_sensitive(true);
        Ok(header)
    }
}

fn mint(keys: &KeySource, names: &TokenArgs, clock: &Clock) -> anyhow::Result<String> {
    let now = clock.now();
    let grant = Grant {
        id: clock.new_id(),
        user_id: clock.new_id(),
        session_id: clock.new_id(),
        roles: vec![ROLE_VERIFIER.to_owned()],
        issued_at: now,
        expires_at: now + token::MAX_LIFE,
    };
    token::sign(keys.current().context("there is no key yet")?.as_ref(), names, &grant)
}

/// How a service verifies access tokens, and says who it is when it follows revocations.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct VerifierArgs {
    /// The keys of the access tokens: a JWK Set (RFC 7517) that nobody else may read (mode 0600). Not needed where
    /// tokens are signed with EdDSA: the public keys come with the revocations
    #[arg(long, env = "TASKEY_KEY_FILE", value_name = "FILE", required_unless_present = "service_token_file")]
    pub key_file: Option<PathBuf>,

    /// The token by which auth-service knows this service, as printed by `auth-service tokens issue-service`, in a file
    /// that nobody else may read (mode 0600). Not needed with a key that signs
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
