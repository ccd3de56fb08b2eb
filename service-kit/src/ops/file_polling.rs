//! Polls files of secrets, so that a rotation takes effect within seconds and without a restart.

use std::time::Duration;

/// How often files are checked for changes.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Calls `reload` every two seconds, for as long as it is awaited. `secrets` names what it reads. If it fails, the last valid
/// secrets must remain in use. Each new error is logged once.
pub async fn poll<F: Future<Output = anyhow::Result<()>>>(secrets: &str, reload: impl Fn() -> F) {
    let mut last_error = None;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let error = reload().await.err().map(|error| format!("{error:#}"));
        if error != last_error
            && let Some(error) = &error
        {
            tracing::error!(error, "cannot read the {secrets}; the previous ones remain in use");
        }
        last_error = error;
    }
}
