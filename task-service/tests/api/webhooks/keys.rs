//! The keys that encrypt the secrets of webhooks.

use std::{fs, path::Path};

use service_kit::{
    assert_refused, on_each_database,
    ops::secret_file::{self, Key},
    testing::{TestDatabase, folder, refusal},
};
use tokio::time::timeout;

use super::{
    ALLOW_LOOPBACK,
    receiver::{Answer, Receiver},
    rotation, to,
};
use crate::support::{Service, WAIT_TIMEOUT, pause};

on_each_database!(secrets_are_encrypted_with_a_new_key_so_that_the_earlier_one_can_be_removed);

/// Writes a file with keys, the first of which encrypts.
fn write(path: &Path, keys: &[&Key]) {
    let lines: Vec<_> = keys.iter().map(|key| key.encode().to_string()).collect();
    // Replaced at once, so that a server does not read a part of it.
    let new = path.with_extension("new");
    secret_file::create(&new, &lines.join("\n")).expect("the file is written");
    fs::rename(new, path).expect("the file is replaced");
}

async fn secrets_are_encrypted_with_a_new_key_so_that_the_earlier_one_can_be_removed(database: TestDatabase) {
    let (folder, old, new) = (folder(), Key::random(), Key::random());
    let [shared, without_old] = ["shared.key", "without-old.key"].map(|name| folder.path().join(name));
    write(&shared, &[&old]);
    write(&without_old, &[&new]);
    let flags = |path: &Path| format!("--webhook-key-file={}", path.display());
    let [shared_flag, without_old_flag] = [flags(&shared), flags(&without_old)];
    let service = Service::start_with(&database, &[&ALLOW_LOOPBACK[..], &[&shared_flag]].concat()).await;
    let replica = service.start_replica(&database, &[&ALLOW_LOOPBACK[..], &[&without_old_flag]].concat()).await;
    let (ann, receiver) = (service.user(), Receiver::start().await);
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    let request = rotation(&webhook.id);
    let rotated = ann.webhooks.clone().rotate_webhook_secret(request).await.expect("rotated").into_inner();
    let elsewhere = ann.connected_to(&replica);
    assert_refused!(elsewhere.test_webhook(&webhook.id).await, FailedPrecondition, "WEBHOOKS_DISABLED");

    write(&shared, &[&new, &old]);
    let encrypted_again = async {
        while let Err(status) = elsewhere.test_webhook(&webhook.id).await {
            // PostgreSQL serves the other tests at the same time, and does not always respond in time.
            let reason = refusal(&status).1;
            assert!(["WEBHOOKS_DISABLED", "STORE_UNAVAILABLE"].contains(&reason.as_str()), "{status:?}");
            pause().await;
        }
    };
    receiver.answer_with(Answer::Status(204));
    timeout(WAIT_TIMEOUT, encrypted_again).await.expect("the secrets are encrypted in time");
    let received = receiver.next().await;
    let secrets = [rotated.secret.as_str(), &webhook.secret];
    assert_eq!(received.header("webhook-signature"), received.expected_signature(&secrets));
    assert_eq!(elsewhere.get_webhook(&webhook.id).await.expect("it exists").etag, rotated.etag);
    service.stop().await;
    replica.stop().await;
}
