//! Attempts to send messages, with the signatures of Standard Webhooks.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::counter;
use service_kit::{
    clock::{Clock, Timestamp},
    network::destination::Forbidden,
    status::ApiError,
};
use tokio::time::{Instant, timeout};
use url::Url;
use uuid::Uuid;

use super::{
    http::{HttpClient, Post, SendWindow},
    secrets::WebhookSecrets,
};
use crate::{
    config::WebhookArgs,
    model::webhook::{Attempt, WebhookRow},
};

/// Maximum time of an attempt, from resolving the host to the head of the answer.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// The same for a test, which must end before the deadline of the call.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The window of a test, whose order among the messages does not matter.
pub(crate) const TEST_WINDOW: SendWindow =
    SendWindow { timeout: TEST_TIMEOUT, until: Timestamp::from_micros(i64::MAX) };

/// Maximum time to resolve the host of a new URL.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends messages to receivers.
pub(crate) struct Sender {
    secrets: WebhookSecrets,
    http: HttpClient,
    clock: Clock,
}

impl Sender {
    pub(crate) fn new(secrets: WebhookSecrets, args: &WebhookArgs, clock: Clock) -> Self {
        Self { secrets, http: HttpClient::new(args.destinations(), args.webhook_ca_file.clone(), clock.clone()), clock }
    }

    /// Checks that messages of an owner may be sent to a URL.
    ///
    /// # Errors
    /// If its host cannot be resolved, or has a forbidden address.
    pub(crate) async fn check_url(&self, owner: Uuid, url: &Url) -> Result<(), Forbidden> {
        let resolved = timeout(RESOLVE_TIMEOUT, self.http.destinations().resolve(owner, url)).await;
        resolved.unwrap_or(Err(Forbidden::Unresolved)).map(drop)
    }

    /// Returns the secrets of webhooks.
    pub(crate) fn secrets(&self) -> &WebhookSecrets {
        &self.secrets
    }

    /// Sends a message once.
    ///
    /// # Errors
    /// WEBHOOKS_DISABLED if the server does not have the key of the secret. A failure of the receiver is no error.
    pub(crate) async fn send(
        &self,
        webhook: &WebhookRow,
        message_id: String,
        body: Vec<u8>,
        window: SendWindow,
    ) -> Result<Attempt, ApiError> {
        let (time, start) = (self.clock.now(), Instant::now());
        let headers = self.headers(webhook, &message_id, time, &body)?;
        let outcome = match Url::parse(&webhook.url) {
            Ok(url) => {
                let (owner, url, body) = (webhook.owner_id, &url, body.into());
                self.http.post(Post { owner, url, headers, body, window }).await
            }
            Err(error) => Err(error.to_string()),
        };
        let http_status = outcome.as_ref().ok().map(StatusCode::as_u16);
        let error = outcome.map_or_else(|error| error, describe);
        let result = if error.is_empty() { "success" } else { "failure" };
        counter!("taskey_webhook_attempts_total", "result" => result).increment(1);
        // With the precision with which it is stored.
        let latency = Duration::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        Ok(Attempt { time, http_status, latency, message_id, error })
    }

    /// Returns the headers of an attempt. During a rotation, there are the signatures of both secrets.
    fn headers(
        &self,
        webhook: &WebhookRow,
        message_id: &str,
        time: Timestamp,
        body: &[u8],
    ) -> Result<HeaderMap, ApiError> {
        let secrets = &webhook.secrets;
        let mut signatures = Vec::new();
        for sealed in [secrets.current.as_str()].into_iter().chain(secrets.previous_at(time)) {
            let secret = self.secrets.open(webhook.owner_id, webhook.id, sealed)?;
            signatures.push(secret.sign(message_id, time, body));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", message_id.to_owned()),
            ("webhook-timestamp", time.as_seconds().to_string()),
            ("webhook-signature", signatures.join(" ")),
        ] {
            let value = HeaderValue::try_from(value).map_err(ApiError::internal)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }
}

/// Describes why an answer is a failure. Empty for a success.
fn describe(status: StatusCode) -> String {
    if status.is_success() {
        String::new()
    } else if status.is_redirection() {
        format!("the receiver answered with status {}; redirects are not followed", status.as_u16())
    } else {
        format!("the receiver answered with status {}", status.as_u16())
    }
}
