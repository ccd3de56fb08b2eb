//! Rotations of secrets, and tests of webhooks.

use std::time::Duration;

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::Webhook;

use super::{
    receiver::{Answer, Receiver},
    rotation, start, to,
};
use crate::support::Service;

on_each_database!(
    both_secrets_sign_for_a_day_after_a_rotation,
    a_test_is_signed_and_moves_no_position,
    a_test_of_a_receiver_that_never_answers_fails,
    tests_are_rate_limited,
    redeliveries_are_rate_limited,
);

async fn both_secrets_sign_for_a_day_after_a_rotation(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let old = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let new = ann.webhooks.clone().rotate_webhook_secret(rotation(&old.id)).await.expect("rotated").into_inner();
    assert!(new.secret.starts_with("whsec_") && new.secret != old.secret && new.etag != old.etag);
    ann.make("Buy milk").await;
    let received = receiver.next().await;
    assert_eq!(received.header("webhook-signature"), received.expected_signature(&[&new.secret, &old.secret]));
    service.manual_clock.advance(Duration::from_secs(86_400));
    ann.make("Buy tea").await;
    let received = receiver.next().await;
    assert_eq!(received.header("webhook-signature"), received.expected_signature(&[&new.secret]));
    service.stop().await;
}

async fn a_test_is_signed_and_moves_no_position(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    receiver.answer_with(Answer::Status(202));
    let attempt = ann.test_webhook(&webhook.id).await.expect("an attempt");
    let received = receiver.next().await;
    assert_eq!((attempt.http_status, attempt.error.as_str()), (202, ""));
    assert_eq!(attempt.message_id, received.header("webhook-id"));
    assert_eq!(received.header("webhook-signature"), received.expected_signature(&[&webhook.secret]));
    assert_eq!(received.json()["changes"].as_array().map(Vec::len), Some(0));
    receiver.answer_with(Answer::Status(500));
    let failed = ann.test_webhook(&webhook.id).await.expect("an attempt");
    assert_eq!((failed.http_status, failed.error.as_str()), (500, "the receiver answered with status 500"));
    assert_eq!(ann.attempts(&webhook.id).await, [failed, attempt]);
    let current = ann.get_webhook(&webhook.id).await.expect("it exists");
    assert_eq!((current.sync_token, current.failing_since_time), (webhook.sync_token, None));
    service.stop().await;
}

async fn a_test_of_a_receiver_that_never_answers_fails(database: TestDatabase) {
    let (service, receiver) = (start(&database).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    receiver.answer_with(Answer::Nothing);
    let attempt = ann.test_webhook(&webhook.id).await.expect("an attempt");
    assert_eq!((attempt.http_status, attempt.error.as_str()), (0, "no answer within 2 s"));
    service.stop().await;
}

async fn tests_are_rate_limited(database: TestDatabase) {
    let flags = [&super::ALLOW_LOOPBACK[..], &["--rate-limits", "on"]].concat();
    let (service, receiver) = (Service::start_with(&database, &flags).await, Receiver::start().await);
    let ann = service.user();
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    for _ in 0..10 {
        ann.test_webhook(&webhook.id).await.expect("an attempt");
    }
    assert_refused!(ann.test_webhook(&webhook.id).await, ResourceExhausted, "RATE_LIMITED");
    service.manual_clock.advance(Duration::from_secs(6));
    ann.test_webhook(&webhook.id).await.expect("an attempt");
    service.stop().await;
}

async fn redeliveries_are_rate_limited(database: TestDatabase) {
    let flags = [&super::ALLOW_LOOPBACK[..], &["--rate-limits", "on"]].concat();
    let (service, receiver) = (Service::start_with(&database, &flags).await, Receiver::start().await);
    let (ann, bob) = (service.user(), service.user());
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    for _ in 0..9 {
        ann.redeliver(&webhook.id, "").await.expect("moved");
    }
    // A creation with an earlier position sends as much.
    let earlier = || Webhook { sync_token: webhook.sync_token.clone(), ..to(&receiver.url()) };
    ann.create_webhook(earlier()).await.expect("created");
    assert_refused!(ann.create_webhook(earlier()).await, ResourceExhausted, "RATE_LIMITED");
    assert_refused!(ann.redeliver(&webhook.id, "").await, ResourceExhausted, "RATE_LIMITED");
    ann.create_webhook(to(&receiver.url())).await.expect("new changes are not limited");
    let other = bob.create_webhook(to(&receiver.url())).await.expect("created");
    bob.redeliver(&other.id, "").await.expect("other accounts have their own limit");
    service.manual_clock.advance(Duration::from_secs(6));
    ann.redeliver(&webhook.id, "").await.expect("moved");
    service.stop().await;
}
