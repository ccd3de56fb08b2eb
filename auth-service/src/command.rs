//! The sub-commands.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Subcommand;
use service_kit::{
    config::KeyArgs,
    keys::{self, KeySet, NewKey},
    secret_file::{self, Key},
};

/// What auth-service does instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes and shows the keys of access tokens
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Makes a new key file (mode 0600); never overwrites one
    Generate {
        /// HS256: a secret that all services share. EdDSA: a private key for auth-service alone
        #[arg(long, default_value = "HS256")]
        alg: NewKey,

        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Makes a new secret by which auth-service knows a gateway (mode 0600); never overwrites one
    GatewaySecret {
        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Prints the public keys of a key file as a JWK Set; a shared secret is never in it
    Public {
        /// The key file.
        #[command(flatten)]
        keys: KeyArgs,
    },
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// In words for a person.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Keys(KeysCommand::Generate { alg, out }) => keys::generate(alg, &out),
            Self::Keys(KeysCommand::GatewaySecret { out }) => secret_file::generate(&out, &Key::random().encode()),
            Self::Keys(KeysCommand::Public { keys }) => {
                Ok(writeln!(io::stdout(), "{}", KeySet::read(&keys.key_file)?.public_json()?)?)
            }
        }
    }
}
