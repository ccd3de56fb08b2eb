//! The command `token`: keeps the tokens of a user for scripts that call Taskey with curl or grpcurl.
//!
//! # Layout
//! - `args`: the options. `prompt`: asks for the password. `store`: the file with the tokens, and its lock. `client`: calls
//!   of auth-service. `device`: the login in a browser.

use std::io::{self, Write};

use anyhow::Context;
use service_kit::clock::Clock;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

mod args;
mod client;
mod device;
mod prompt;
mod store;

use args::LoginArgs;
pub use args::{InstallationArgs, TokenCommand};
pub use client::AuthClient;
use client::Login;
pub use prompt::password as prompt_password;
use store::{StoredSession, TokenStore};

/// Runs a command.
///
/// # Errors
/// If the command fails; the message is for the user.
pub async fn run(command: TokenCommand, clock: &Clock) -> anyhow::Result<()> {
    match command {
        TokenCommand::Login(arguments) => log_in(arguments, clock).await,
        TokenCommand::Print(installation) => print(&installation, clock).await,
        TokenCommand::Logout(installation) => log_out(&installation, clock).await,
    }
}

async fn log_in(arguments: LoginArgs, clock: &Clock) -> anyhow::Result<()> {
    let LoginArgs { email, device, scope, password_stdin, code, installation } = arguments;
    let (store, name) = (TokenStore::new(&installation)?, installation.name());
    let client = AuthClient::open(&installation, clock).await?;
    // An unusable file is reported before the user types a password.
    store.read()?;
    if device {
        return device::log_in(&client, store, &name, scope.unwrap_or_default()).await;
    }
    let credentials = spawn_blocking(move || prompt::credentials(email, password_stdin)).await??;
    let path = store.path().to_owned();
    let store = store.lock().await?;
    let replaced = store.read()?;
    let session = match client.log_in(&credentials).await {
        Ok(Login::Complete(session)) => Ok(session),
        Ok(Login::Challenge(challenge)) => {
            let code = spawn_blocking(move || code.map_or_else(prompt::code, Ok)).await??;
            client.complete_login(challenge, &code).await
        }
        Err(error) => Err(error),
    };
    let session = session.with_context(|| format!("cannot log in to {name}"))?;
    store.write(&session)?;
    client.log_out_replaced(replaced).await;
    Ok(writeln!(io::stdout(), "logged in as {}; the tokens are in {}", credentials.email, path.display())?)
}

async fn print(installation: &InstallationArgs, clock: &Clock) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", *access_token(installation, clock).await?)?)
}

/// Returns an access token of the user who is logged in. Refreshes the stored one if necessary.
///
/// # Errors
/// If nobody is logged in, the session has ended, or the server does not respond.
pub async fn access_token(installation: &InstallationArgs, clock: &Clock) -> anyhow::Result<Zeroizing<String>> {
    let store = TokenStore::new(installation)?;
    let stored = store.read()?.with_context(|| not_logged_in(installation))?;
    let session = if stored.is_valid(clock.now()) { stored } else { refresh(installation, store, clock).await? };
    Ok(session.access_token)
}

/// Refreshes the stored tokens, unless another process has just done so.
async fn refresh(installation: &InstallationArgs, store: TokenStore, clock: &Clock) -> anyhow::Result<StoredSession> {
    let client = AuthClient::open(installation, clock).await?;
    let store = store.lock().await?;
    let stored = store.read()?.with_context(|| not_logged_in(installation))?;
    if stored.is_valid(clock.now()) {
        return Ok(stored);
    }
    match client.refresh(&stored.refresh_token).await {
        Ok(session) => {
            store.write(&session)?;
            Ok(session)
        }
        Err(error) if error.ends_session() => {
            store.delete()?;
            Err(error).with_context(|| format!("the session has ended: {}", how_to_log_in(installation)))
        }
        Err(error) => Err(error).with_context(|| format!("cannot refresh the token at {}", installation.name())),
    }
}

async fn log_out(installation: &InstallationArgs, clock: &Clock) -> anyhow::Result<()> {
    let (store, name) = (TokenStore::new(installation)?, installation.name());
    if store.read()?.is_none() {
        return Ok(writeln!(io::stdout(), "not logged in to {name}")?);
    }
    let client = AuthClient::open(installation, clock).await?;
    let store = store.lock().await?;
    if let Some(stored) = store.read()? {
        let logged_out = client.log_out(&stored.refresh_token).await;
        logged_out.with_context(|| format!("cannot log out of {name}, and the tokens were kept: try again later"))?;
        store.delete()?;
    }
    Ok(writeln!(io::stdout(), "logged out of {name}")?)
}

fn not_logged_in(installation: &InstallationArgs) -> String {
    format!("not logged in to {}: {}", installation.name(), how_to_log_in(installation))
}

fn how_to_log_in(installation: &InstallationArgs) -> String {
    format!("log in with `taskey token login --url {}`", installation.name())
}
