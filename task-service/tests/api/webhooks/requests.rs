//! Writes to webhooks can be retried with a request id, and depend on an etag.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::{args, assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, ListWebhooksRequest, RedeliverWebhookRequest,
    RotateWebhookSecretRequest, UpdateWebhookRequest, Webhook,
};
use tonic::Response;

use super::{receiver::Receiver, rotation, start, to, webhook_update};
use crate::{
    delete::open_database,
    support::{User, with_revision},
};

on_each_database!(
    a_retried_creation_returns_the_same_webhook_and_secret,
    a_retried_rotation_keeps_the_secret_in_use,
    retried_updates_redeliveries_and_deletions_take_effect_once,
    a_request_id_is_valid_for_one_request,
    rotations_and_redeliveries_depend_on_the_etag,
);

const ID: &str = "0198c0de-0000-7000-8000-00000000000a";

/// Returns a response, and whether it is that of an earlier request.
fn read(response: Response<Webhook>) -> (Webhook, bool) {
    let is_replayed = response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true");
    (response.into_inner(), is_replayed)
}

async fn count(ann: &User) -> usize {
    let page = ann.webhooks.clone().list_webhooks(ListWebhooksRequest::default()).await.expect("a page");
    page.into_inner().webhooks.len()
}

async fn a_retried_creation_returns_the_same_webhook_and_secret(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let request = CreateWebhookRequest { webhook: Some(to(&receiver.url())), request_id: ID.to_owned() };
    let mut client = ann.webhooks.clone();
    let (created, _) = read(client.create_webhook(request.clone()).await.expect("created"));
    assert!(created.secret.starts_with("whsec_"));
    let repeated = read(client.create_webhook(request).await.expect("repeated"));
    assert_eq!(repeated, (created.clone(), true));
    assert_eq!(count(&ann).await, 1);
    service.stop().await;
    let db = open_database(&database.parsed_url()).await;
    let stored: Option<String> = db.fetch_optional("select answer from requests", args![]).await.expect("a row");
    let stored = BASE64_URL_SAFE_NO_PAD.decode(stored.expect("one response")).expect("base64url");
    let stored = String::from_utf8_lossy(&stored);
    let secret = created.secret.trim_start_matches("whsec_");
    assert!(stored.contains(&created.id) && !stored.contains(&secret[..8]), "the secret is encrypted");
    db.close().await;
}

async fn a_retried_rotation_keeps_the_secret_in_use(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let request = RotateWebhookSecretRequest { request_id: ID.to_owned(), ..rotation(&webhook.id) };
    let mut client = ann.webhooks.clone();
    let (rotated, _) = read(client.rotate_webhook_secret(request.clone()).await.expect("rotated"));
    let repeated = read(client.rotate_webhook_secret(request).await.expect("repeated"));
    assert_eq!(repeated, (rotated.clone(), true));
    ann.make("Buy milk").await;
    let received = receiver.next().await;
    let expected = received.expected_signature(&[&rotated.secret, &webhook.secret]);
    assert_eq!(received.header("webhook-signature"), expected);
    service.stop().await;
}

async fn retried_updates_redeliveries_and_deletions_take_effect_once(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let id = webhook.id.clone();
    let request_id = |number: u8| format!("0198c0de-0000-7000-8000-0000000000{number:02}");
    let filtered = Webhook { filter: "state = OPEN".to_owned(), ..webhook };
    let update = UpdateWebhookRequest { request_id: request_id(1), ..webhook_update(filtered, &["filter"]) };
    let redelivery =
        RedeliverWebhookRequest { id: id.clone(), request_id: request_id(2), ..RedeliverWebhookRequest::default() };
    let deletion = DeleteWebhookRequest { id, request_id: request_id(3), ..DeleteWebhookRequest::default() };
    let mut client = ann.webhooks.clone();
    let (updated, _) = read(client.update_webhook(update.clone()).await.expect("updated"));
    let (moved, _) = read(client.redeliver_webhook(redelivery.clone()).await.expect("moved"));
    assert_ne!(moved.etag, updated.etag);
    assert_eq!(read(client.redeliver_webhook(redelivery).await.expect("repeated")), (moved.clone(), true));
    assert_eq!(ann.get_webhook(&moved.id).await.expect("it exists").etag, moved.etag);
    let (deleted, _) = read(client.delete_webhook(deletion.clone()).await.expect("deleted"));
    // Although the webhook does not exist any more, and the etag of the update is not the current one.
    assert_eq!(read(client.delete_webhook(deletion).await.expect("repeated")), (deleted, true));
    assert_eq!(read(client.update_webhook(update).await.expect("repeated")), (updated, true));
    assert_eq!(count(&ann).await, 0);
    service.stop().await;
}

async fn a_request_id_is_valid_for_one_request(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let request = RotateWebhookSecretRequest { request_id: ID.to_owned(), ..rotation(&webhook.id) };
    let mut client = ann.webhooks.clone();
    client.rotate_webhook_secret(request.clone()).await.expect("rotated");
    let other = CreateWebhookRequest { webhook: Some(to(&receiver.url())), request_id: ID.to_owned() };
    let refused = client.create_webhook(other).await;
    assert_refused!(refused, FailedPrecondition, "REQUEST_ID_REUSED", "request_id");
    let invalid = RotateWebhookSecretRequest { request_id: "again".to_owned(), ..request };
    let refused = client.rotate_webhook_secret(invalid).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "request_id");
    assert_eq!(count(&ann).await, 1);
    service.stop().await;
}

async fn rotations_and_redeliveries_depend_on_the_etag(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let mut client = ann.webhooks.clone();
    let etag = with_revision(&webhook.etag, 9);
    let stale = RotateWebhookSecretRequest { etag: etag.clone(), ..rotation(&webhook.id) };
    assert_refused!(client.rotate_webhook_secret(stale).await, Aborted, "ETAG_MISMATCH");
    let stale = RedeliverWebhookRequest { id: webhook.id.clone(), etag, ..RedeliverWebhookRequest::default() };
    assert_refused!(client.redeliver_webhook(stale).await, Aborted, "ETAG_MISMATCH");
    let current = RotateWebhookSecretRequest { etag: webhook.etag, ..rotation(&webhook.id) };
    let (rotated, _) = read(client.rotate_webhook_secret(current).await.expect("rotated"));
    let id = rotated.id;
    let current = RedeliverWebhookRequest { id, etag: rotated.etag, ..RedeliverWebhookRequest::default() };
    client.redeliver_webhook(current).await.expect("moved");
    service.stop().await;
}
