//! The login of a device whose user allows it in a browser (RFC 8628).

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use taskey_proto::{auth::v1::AuthorizeDeviceResponse, errors::v1::ErrorReason};
use tokio::time::{sleep, timeout};

use super::{
    client::{AuthClient, CallError},
    store::{StoredSession, TokenStore},
};

/// By how much the time between two polls grows if the server asks for it (RFC 8628, section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// Maximum time between two polls while the server does not respond.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum time for which a user is waited for, whatever the server says.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Prints the codes, waits for the decision of the user, and stores the tokens. `name` is the URL of the gateway.
///
/// # Errors
/// If the user refuses or does not decide in time, or the server does not respond.
pub async fn log_in(client: &AuthClient, store: TokenStore, name: &str, scope: String) -> anyhow::Result<()> {
    let cannot_log_in = || format!("cannot log in to {name}");
    let device = client.authorize_device(&scope).await.with_context(cannot_log_in)?;
    let url = |uri: &str| if uri.starts_with('/') { format!("{name}{uri}") } else { uri.to_owned() };
    writeln!(
        io::stdout(),
        "Open {} in a browser, and enter the code {}\nWith the code filled in: {}",
        url(&device.verification_uri),
        device.user_code,
        url(&device.verification_uri_complete)
    )?;
    io::stdout().flush()?;
    let session = await_decision(client, &device).await.with_context(cannot_log_in)?;
    let path = store.path().to_owned();
    let store = store.lock().await?;
    let replaced = store.read()?;
    store.write(&session)?;
    client.log_out_replaced(replaced).await;
    Ok(writeln!(io::stdout(), "logged in; the tokens are in {}", path.display())?)
}

async fn await_decision(client: &AuthClient, device: &AuthorizeDeviceResponse) -> Result<StoredSession, CallError> {
    let lifetime = Duration::from_secs(device.expires_in.into()).min(MAX_LIFETIME);
    let polls = poll_until_decided(client, device);
    timeout(lifetime, polls).await.unwrap_or_else(|_| {
        Err(CallError::NoResponse(anyhow::anyhow!("nobody has allowed the login within {} s", lifetime.as_secs())))
    })
}

async fn poll_until_decided(client: &AuthClient, device: &AuthorizeDeviceResponse) -> Result<StoredSession, CallError> {
    let mut interval = Duration::from_secs(device.interval.max(1).into());
    loop {
        sleep(interval).await;
        match client.poll_device(&device.device_code).await {
            Err(error) if error.is(ErrorReason::AuthorizationPending) => {}
            Err(error) if error.is(ErrorReason::RateLimited) => interval += SLOW_DOWN,
            // If the lost response contained the tokens, the next one says that the code was used.
            Err(error) if error.is_transient() => interval = (interval * 2).min(MAX_INTERVAL.max(interval)),
            outcome => return outcome,
        }
    }
}
