//! How a service that verifies tokens says who it is.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use tokio::task::spawn_blocking;
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    clock::Clock,
    config::TokenArgs,
    key_source::KeySource,
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
