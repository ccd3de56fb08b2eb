//! How long the access token of an ended session is accepted.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, transport::Channel};

use super::client::RETRY_DELAY;
use crate::faults::users::{check_token, reason};

/// A token that was not refused by now is accepted in error.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Waits until all replicas refuse a token. Returns how long after this call one of them accepted it last.
pub async fn measure_revocation(replicas: &[Channel], token: &str) -> Duration {
    let (logged_out_at, mut lag) = (Instant::now(), Duration::ZERO);
    for replica in replicas {
        let refused = timeout(MAX_WAIT, wait_until_refused(replica, token)).await;
        let accepted_at = refused.unwrap_or_else(|_| Some(Instant::now()));
        lag = lag.max(accepted_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(logged_out_at)));
    }
    lag
}

/// Returns when the call was made that accepted the token last.
async fn wait_until_refused(replica: &Channel, token: &str) -> Option<Instant> {
    let mut accepted_at = None;
    loop {
        let sent_at = Instant::now();
        match check_token(replica, token).await {
            Ok(()) => accepted_at = Some(sent_at),
            Err(status) if is_refused(&status) => return accepted_at,
            // A restart, or an attack: whether the token is accepted is not known.
            Err(_) => sleep(RETRY_DELAY).await,
        }
    }
}

fn is_refused(status: &Status) -> bool {
    ["TOKEN_REVOKED", "TOKEN_EXPIRED"].contains(&&reason(status)[..])
}
