//! Webhooks are created, read, updated and deleted by their owners.

use service_kit::{args, assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    DeleteWebhookRequest, ListWebhookAttemptsRequest, ListWebhooksRequest, Webhook, webhook::State,
};
use tokio::time::timeout;

use super::{receiver::Receiver, rotation, start, to};
use crate::{
    delete::open_database,
    support::{WAIT_TIMEOUT, pause, with_revision},
};

on_each_database!(
    a_secret_is_returned_once_and_encrypted_in_the_database,
    an_account_has_at_most_ten_webhooks,
    webhooks_of_others_do_not_exist,
    a_webhook_is_updated_like_other_resources,
    invalid_webhooks_are_refused,
    a_url_is_limited_in_the_form_in_which_it_is_returned,
    a_deleted_webhook_leaves_nothing,
    webhooks_of_deleted_accounts_are_removed,
    lists_have_pages,
);

/// An address to which nothing can be sent.
const URL: &str = "http://127.0.0.1:9/hook";

async fn a_secret_is_returned_once_and_encrypted_in_the_database(database: TestDatabase) {
    let service = start(&database).await;
    let ann = service.user();
    let created = ann.create_webhook(to(URL)).await.expect("created");
    assert!(created.secret.starts_with("whsec_"));
    let read = ann.get_webhook(&created.id).await.expect("it exists");
    assert_eq!(read, Webhook { secret: String::new(), ..created.clone() });
    assert_eq!((read.state(), read.url.as_str(), read.filter.as_str()), (State::Active, URL, ""));
    service.stop().await;
    let db = open_database(&database.parsed_url()).await;
    let sealed: Option<String> = db.fetch_optional("select sealed_secret from webhooks", args![]).await.expect("a row");
    let (sealed, secret) = (sealed.expect("one webhook"), created.secret.trim_start_matches("whsec_").to_owned());
    assert!(sealed.len() > secret.len() && !sealed.contains(&secret[..8]));
    db.close().await;
}

async fn an_account_has_at_most_ten_webhooks(database: TestDatabase) {
    let service = start(&database).await;
    let ann = service.user();
    for _ in 0..10 {
        ann.create_webhook(to(URL)).await.expect("created");
    }
    assert_refused!(ann.create_webhook(to(URL)).await, ResourceExhausted, "QUOTA_EXCEEDED");
    service.user().create_webhook(to(URL)).await.expect("other accounts have their own quota");
    service.stop().await;
}

async fn webhooks_of_others_do_not_exist(database: TestDatabase) {
    let service = start(&database).await;
    let (ann, eve) = (service.user(), service.user());
    let webhook = ann.create_webhook(to(URL)).await.expect("created");
    let id = webhook.id.clone();
    assert_refused!(eve.get_webhook(&id).await, NotFound, "WEBHOOK_NOT_FOUND");
    assert_refused!(eve.update_webhook(webhook, &["url"]).await, NotFound, "WEBHOOK_NOT_FOUND");
    assert_refused!(eve.test_webhook(&id).await, NotFound, "WEBHOOK_NOT_FOUND");
    assert_refused!(eve.redeliver(&id, "").await, NotFound, "WEBHOOK_NOT_FOUND");
    let mut client = eve.webhooks.clone();
    let rotated = client.rotate_webhook_secret(rotation(&id)).await;
    assert_refused!(rotated, NotFound, "WEBHOOK_NOT_FOUND");
    let request = ListWebhookAttemptsRequest { webhook_id: id.clone(), ..ListWebhookAttemptsRequest::default() };
    assert_refused!(client.list_webhook_attempts(request).await, NotFound, "WEBHOOK_NOT_FOUND");
    let deleted = client.delete_webhook(DeleteWebhookRequest { id, ..DeleteWebhookRequest::default() }).await;
    assert_refused!(deleted, NotFound, "WEBHOOK_NOT_FOUND");
    let listed = client.list_webhooks(ListWebhooksRequest::default()).await.expect("a page").into_inner();
    assert_eq!(listed.webhooks, []);
    service.stop().await;
}

async fn a_webhook_is_updated_like_other_resources(database: TestDatabase) {
    let service = start(&database).await;
    let ann = service.user();
    let created = ann.create_webhook(to(URL)).await.expect("created");
    let read = ann.get_webhook(&created.id).await.expect("it exists");
    // The whole object of a GET, with one change.
    let all = ["url", "filter", "state", "sync_token", "failing_since_time", "create_time", "update_time"];
    let changed = Webhook { filter: "state = OPEN".to_owned(), sync_token: "earlier".to_owned(), ..read.clone() };
    let updated = ann.patch_webhook(changed, &all).await.expect("updated");
    assert_eq!(updated.filter, "state = OPEN");
    assert_ne!(updated.etag, read.etag);
    let stale = ann.update_webhook(read.clone(), &["url"]).await;
    assert_refused!(stale, Aborted, "ETAG_MISMATCH");
    let forged = Webhook { etag: with_revision(&updated.etag, 9), ..updated.clone() };
    assert_refused!(ann.update_webhook(forged, &["url"]).await, Aborted, "ETAG_MISMATCH");
    let moved = Webhook {
        create_time: updated.update_time.map(|time| prost_types::Timestamp { seconds: 1, ..time }),
        ..updated.clone()
    };
    let refused = ann.patch_webhook(moved, &["create_time"]).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "webhook.create_time");
    let other = Webhook { secret: "whsec_AAAA".to_owned(), ..updated.clone() };
    let refused = ann.patch_webhook(other, &["secret"]).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "webhook.secret");
    for path in ["owner_id", "id", "create_time", "secret", "etag"] {
        let refused = ann.update_webhook(updated.clone(), &[path]).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "update_mask");
    }
    service.stop().await;
}

async fn invalid_webhooks_are_refused(database: TestDatabase) {
    let service = start(&database).await;
    let ann = service.user();
    let long = format!("https://1.1.1.1/{}", "a".repeat(2000));
    let urls = ["", "hook", "ftp://1.1.1.1/", "https://", "https://a:b@1.1.1.1/", "https://1.1.1.1/#part", &long];
    for url in urls {
        assert_refused!(ann.create_webhook(to(url)).await, InvalidArgument, "VALIDATION_FAILED", "webhook.url");
    }
    let filtered = Webhook { filter: "color = RED".to_owned(), ..to(URL) };
    assert_refused!(ann.create_webhook(filtered).await, InvalidArgument, "FILTER_INVALID", "webhook.filter");
    let unknown = Webhook { state: 3, ..to(URL) };
    assert_refused!(ann.create_webhook(unknown).await, InvalidArgument, "VALIDATION_FAILED", "webhook.state");
    let foreign = Webhook { sync_token: service.user().current_sync_token().await, ..to(URL) };
    let refused = ann.create_webhook(foreign).await;
    assert_refused!(refused, InvalidArgument, "SYNC_TOKEN_INVALID", "webhook.sync_token");
    service.stop().await;
}

async fn a_url_is_limited_in_the_form_in_which_it_is_returned(database: TestDatabase) {
    let service = start(&database).await;
    let ann = service.user();
    // Each letter is returned as six characters.
    let url = |letters: usize| format!("{URL}{}", "ü".repeat(letters));
    let refused = ann.create_webhook(to(&url(400))).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "webhook.url");
    let created = ann.create_webhook(to(&url(300))).await.expect("created");
    let read = ann.get_webhook(&created.id).await.expect("it exists");
    assert_eq!(read.url.len(), URL.len() + 1800);
    let updated = ann.patch_webhook(read.clone(), &["url", "filter", "state", "sync_token"]).await;
    assert_eq!(updated.expect("the whole object of a GET").url, read.url);
    service.stop().await;
}

async fn a_deleted_webhook_leaves_nothing(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.test_webhook(&webhook.id).await.expect("an attempt");
    let mut client = ann.webhooks.clone();
    let etag = with_revision(&webhook.etag, 9);
    let refused = client
        .delete_webhook(DeleteWebhookRequest { id: webhook.id.clone(), etag, ..DeleteWebhookRequest::default() })
        .await;
    assert_refused!(refused, Aborted, "ETAG_MISMATCH");
    let request =
        DeleteWebhookRequest { id: webhook.id.clone(), etag: webhook.etag, ..DeleteWebhookRequest::default() };
    client.delete_webhook(request).await.expect("deleted");
    assert_refused!(ann.get_webhook(&webhook.id).await, NotFound, "WEBHOOK_NOT_FOUND");
    assert_eq!(count_rows(&database).await, 0);
    service.stop().await;
}

async fn webhooks_of_deleted_accounts_are_removed(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.test_webhook(&webhook.id).await.expect("an attempt");
    service.feed.delete([ann.id]);
    let removed = async {
        while count_rows(&database).await > 0 {
            pause().await;
        }
    };
    timeout(WAIT_TIMEOUT, removed).await.expect("the rows are removed");
    service.stop().await;
}

async fn lists_have_pages(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let first = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let second = ann.create_webhook(to(URL)).await.expect("created");
    let mut client = ann.webhooks.clone();
    let mut request = ListWebhooksRequest { page_size: 1, page_token: String::new() };
    for expected in [&second, &first] {
        let page = client.list_webhooks(request.clone()).await.expect("a page").into_inner();
        assert_eq!(page.webhooks.iter().map(|webhook| &webhook.id).collect::<Vec<_>>(), [&expected.id]);
        request.page_token = page.next_page_token;
    }
    assert_eq!(request.page_token, "");
    let tested = [ann.test_webhook(&first.id).await, ann.test_webhook(&first.id).await];
    let mut request = ListWebhookAttemptsRequest {
        webhook_id: first.id.clone(),
        page_size: 1,
        ..ListWebhookAttemptsRequest::default()
    };
    for expected in tested.into_iter().rev() {
        let page = client.list_webhook_attempts(request.clone()).await.expect("a page").into_inner();
        assert_eq!(page.attempts, [expected.expect("an attempt")]);
        request.page_token = page.next_page_token;
    }
    assert_eq!(request.page_token, "");
    "other".clone_into(&mut request.page_token);
    let refused = client.list_webhook_attempts(request).await;
    assert_refused!(refused, InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    service.stop().await;
}

/// Returns the number of stored webhooks and attempts.
async fn count_rows(database: &TestDatabase) -> i64 {
    const COUNT: &str = "select (select count(*) from webhooks) + (select count(*) from webhook_attempts)";
    let db = open_database(&database.parsed_url()).await;
    let count = db.fetch_optional(COUNT, args![]).await.expect("the rows can be counted").expect("a row");
    db.close().await;
    count
}
