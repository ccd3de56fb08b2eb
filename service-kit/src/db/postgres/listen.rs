//! Notifications, on a separate connection.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::time::{sleep, timeout};

use crate::random;

/// How long to wait before a broken connection is replaced.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A connection is replaced after this long without a notification, because the server may have disappeared without
/// closing it.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Calls `receive` with the payload of each notification, and with `None` whenever one may have been missed, until the
/// future is dropped.
pub(super) async fn listen(
    options: &PgConnectOptions,
    connect_limit: Duration,
    channel: &'static str,
    mut receive: impl FnMut(Option<&str>),
) {
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(connect_limit).connect_lazy_with(options.clone());
    loop {
        let outcome = listen_once(&pool, channel, &mut receive).await;
        tracing::debug!(channel, error = ?outcome.err(), "listening again");
        sleep(random::jitter(RETRY_DELAY)).await;
    }
}

async fn listen_once(
    pool: &sqlx::PgPool,
    channel: &str,
    receive: &mut impl FnMut(Option<&str>),
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Notifications may have been missed before.
    receive(None);
    while let Ok(notification) = timeout(MAX_SILENCE, listener.try_recv()).await {
        let notification = notification?;
        receive(notification.as_ref().map(PgNotification::payload));
        if notification.is_none() {
            break;
        }
    }
    Ok(())
}
