//! The commands for the tokens and the certificates of services.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Subcommand;
use service_kit::{
    auth::scope::{Scope, Scopes},
    clock::Clock,
    ops::config,
};

use super::event::tool_event;
use crate::{
    config::DatabaseArgs,
    model::{
        audit::Kind,
        personal_access_token::LastUse,
        service_certificate::CertificateName,
        service_token::{self, MAX_TOKENS, SERVICE_SCOPES, ServiceName},
    },
    store::service_tokens::{self, Credential, CredentialKind, Inserted, NewServiceCertificate, NewServiceToken},
};

/// Commands for service tokens.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Create a service token and print it. Only its hash is stored. A service can have several tokens
    IssueService {
        /// Name of the service
        name: ServiceName,

        /// Accept the certificate with this subject alternative name, a URI or a DNS name, instead of a token. No token is
        /// created. Needs mutual TLS (--tls-client-ca-file), and at least one scope
        #[arg(long, value_name = "NAME", requires = "scopes")]
        san: Option<CertificateName>,

        /// What the service may do; can be repeated. tokens.verify: introspect tokens and receive revocations.
        /// clients.forward: call on behalf of clients, as the gateway does, and say what their addresses are [default:
        /// all scopes]
        #[arg(long = "scope", value_name = "SCOPE", value_parser = service_token::parse_scope)]
        scopes: Vec<Scope>,

        /// How long the token is valid, for example 90d [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = config::age, conflicts_with = "san")]
        expires_in: Option<Duration>,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// List the services: name, `token` or the name in its certificate, scopes, when it was added, when it expires, and the
    /// day on which it was last used (UTC)
    ListServices {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Revoke all tokens and certificates of a service. Its open streams end within seconds
    RevokeService {
        /// Name of the service
        name: ServiceName,

        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

impl TokensCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// If the command fails; the message is for the user.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::IssueService { name, san: None, scopes, expires_in, database } => {
                issue_token(&database, name, scopes, expires_in).await
            }
            Self::IssueService { name, san: Some(san), scopes, database, .. } => {
                accept_certificate(&database, name, san, scopes).await
            }
            Self::ListServices { database } => list(&database).await,
            Self::RevokeService { name, database } => revoke(&database, name).await,
        }
    }
}

async fn issue_token(
    database: &DatabaseArgs,
    name: ServiceName,
    scopes: Vec<Scope>,
    expires_in: Option<Duration>,
) -> anyhow::Result<()> {
    let (db, clock) = (database.open_for_tool().await?, Clock::system());
    let scopes: Scopes =
        if scopes.is_empty() { SERVICE_SCOPES.into_iter().collect() } else { scopes.into_iter().collect() };
    let event = tool_event(&clock, Kind::ServiceTokenIssued).with_detail("service", &name);
    let mut event = event.with_detail("scopes", &scopes);
    let (token, hash) = service_token::generate();
    let expires_at = expires_in.map(|lifetime| clock.now() + lifetime);
    if let Some(expires_at) = expires_at {
        event = event.with_detail("expire_time", &expires_at);
    }
    let new = NewServiceToken { hash, name, scopes, expires_at };
    let inserted = service_tokens::insert(&db, clock.now(), new, event).await;
    db.close().await;
    anyhow::ensure!(inserted?, "{}", too_many());
    Ok(writeln!(io::stdout(), "{}", *token)?)
}

async fn accept_certificate(
    database: &DatabaseArgs,
    name: ServiceName,
    san: CertificateName,
    scopes: Vec<Scope>,
) -> anyhow::Result<()> {
    let (db, clock) = (database.open_for_tool().await?, Clock::system());
    let scopes: Scopes = scopes.into_iter().collect();
    let event = tool_event(&clock, Kind::ServiceTokenIssued).with_detail("service", &name);
    let event = event.with_detail("scopes", &scopes).with_detail("san", &san);
    let new = NewServiceCertificate { san: san.clone(), name, scopes };
    let inserted = service_tokens::insert_certificate(&db, clock.now(), new, event).await;
    db.close().await;
    match inserted? {
        Inserted::Yes => Ok(()),
        Inserted::TooMany => anyhow::bail!(too_many()),
        Inserted::Taken(owner) => anyhow::bail!("{san} belongs to the service {owner}; revoke that first"),
    }
}

fn too_many() -> String {
    format!("there are already {MAX_TOKENS} service tokens and certificates; revoke those that are not used")
}

async fn list(database: &DatabaseArgs) -> anyhow::Result<()> {
    let db = database.open_existing().await?;
    let all = service_tokens::list(&db).await;
    db.close().await;
    let mut output = io::stdout().lock();
    for Credential { name, kind, scopes, create_time, expires_at, last_used_day } in all? {
        let kind = match kind {
            CredentialKind::Token(_) => "token".to_owned(),
            CredentialKind::Certificate(san) => san.to_string(),
        };
        let create_time = prost_types::Timestamp::from(create_time);
        let never = || "never".to_owned();
        let expire_time = expires_at.map_or_else(never, |at| prost_types::Timestamp::from(at).to_string());
        let last_use = LastUse { day: last_used_day, address: String::new() };
        let last_use = last_used_day.map_or_else(never, |_| last_use.date());
        writeln!(output, "{name}\t{kind}\t{scopes}\t{create_time}\t{expire_time}\t{last_use}")?;
    }
    Ok(())
}

async fn revoke(database: &DatabaseArgs, name: ServiceName) -> anyhow::Result<()> {
    let (db, clock) = (database.open_existing().await?, Clock::system());
    let event = tool_event(&clock, Kind::ServiceTokensRevoked).with_detail("service", &name);
    let removed = service_tokens::remove(&db, clock.now(), name.clone(), event).await;
    db.close().await;
    anyhow::ensure!(removed? > 0, "{name} has no token and no certificate");
    Ok(())
}
