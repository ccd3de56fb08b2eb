//! Webhooks, with real receivers.

use service_kit::testing::{TestDatabase, refusal};
use taskey_proto::task::v1::{
    CreateWebhookRequest, GetWebhookRequest, ListWebhookAttemptsRequest, RedeliverWebhookRequest,
    RotateWebhookSecretRequest, TestWebhookRequest, UpdateWebhookRequest, Webhook, WebhookAttempt, webhook::State,
};
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::support::{Service, User, WAIT_TIMEOUT, pause};

mod content;
mod delivery;
mod destinations;
mod disabled;
mod keys;
mod management;
mod pauses;
mod receiver;
mod replicas;
mod requests;
mod restored;
mod rotation;

/// The flags with which receivers of tests are permitted.
const ALLOW_LOOPBACK: [&str; 2] = ["--webhook-allow", "127.0.0.0/8"];

/// Starts a service that sends webhooks to this machine.
async fn start(database: &TestDatabase) -> Service {
    Service::start_with(database, &ALLOW_LOOPBACK).await
}

fn to(url: &str) -> Webhook {
    Webhook { url: url.to_owned(), ..Webhook::default() }
}

fn rotation(id: &str) -> RotateWebhookSecretRequest {
    RotateWebhookSecretRequest { id: id.to_owned(), ..RotateWebhookSecretRequest::default() }
}

fn webhook_update(webhook: Webhook, mask: &[&str]) -> UpdateWebhookRequest {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    UpdateWebhookRequest { webhook: Some(webhook), update_mask, ..UpdateWebhookRequest::default() }
}

impl User {
    async fn create_webhook(&self, webhook: Webhook) -> Result<Webhook, Status> {
        let request = CreateWebhookRequest { webhook: Some(webhook), ..CreateWebhookRequest::default() };
        Ok(self.webhooks.clone().create_webhook(request).await?.into_inner())
    }

    async fn get_webhook(&self, id: &str) -> Result<Webhook, Status> {
        Ok(self.webhooks.clone().get_webhook(GetWebhookRequest { id: id.to_owned() }).await?.into_inner())
    }

    async fn update_webhook(&self, webhook: Webhook, mask: &[&str]) -> Result<Webhook, Status> {
        let request = Request::new(webhook_update(webhook, mask));
        Ok(self.webhooks.clone().update_webhook(request).await?.into_inner())
    }

    /// Updates a webhook with a mask that the gateway has derived from the body of a PATCH.
    async fn patch_webhook(&self, webhook: Webhook, mask: &[&str]) -> Result<Webhook, Status> {
        let mut request = Request::new(webhook_update(webhook, mask));
        request.metadata_mut().insert("taskey-derived-mask", "true".parse().expect("a value"));
        Ok(self.webhooks.clone().update_webhook(request).await?.into_inner())
    }

    async fn test_webhook(&self, id: &str) -> Result<WebhookAttempt, Status> {
        Ok(self.webhooks.clone().test_webhook(TestWebhookRequest { id: id.to_owned() }).await?.into_inner())
    }

    async fn redeliver(&self, id: &str, sync_token: &str) -> Result<Webhook, Status> {
        let (id, sync_token) = (id.to_owned(), sync_token.to_owned());
        let request = RedeliverWebhookRequest { id, sync_token, ..RedeliverWebhookRequest::default() };
        Ok(self.webhooks.clone().redeliver_webhook(request).await?.into_inner())
    }

    /// Returns the attempts of a webhook, newest first.
    async fn attempts(&self, id: &str) -> Vec<WebhookAttempt> {
        let request = ListWebhookAttemptsRequest { webhook_id: id.to_owned(), ..ListWebhookAttemptsRequest::default() };
        self.webhooks.clone().list_webhook_attempts(request).await.expect("a page").into_inner().attempts
    }

    /// Waits until a webhook satisfies a condition.
    async fn webhook_when(&self, id: &str, condition: impl Fn(&Webhook) -> bool) -> Webhook {
        let reached = async {
            loop {
                match self.get_webhook(id).await {
                    Ok(webhook) if condition(&webhook) => return webhook,
                    Ok(_) => {}
                    // PostgreSQL serves the other tests at the same time, and does not always respond in time.
                    Err(status) => assert_eq!(refusal(&status).1, "STORE_UNAVAILABLE", "{status:?}"),
                }
                pause().await;
            }
        };
        timeout(WAIT_TIMEOUT, reached).await.expect("the webhook changes in time")
    }

    /// Waits until an attempt has failed after the last success.
    async fn failing_webhook(&self, id: &str) -> Webhook {
        self.webhook_when(id, |webhook| webhook.failing_since_time.is_some()).await
    }

    /// Waits until a webhook is paused.
    async fn paused_webhook(&self, id: &str) -> Webhook {
        self.webhook_when(id, |webhook| webhook.state() == State::Paused).await
    }
}
