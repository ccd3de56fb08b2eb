//! Users cannot reach the network of the operator through webhooks.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use futures::future::join_all;
use service_kit::{
    assert_refused,
    network::destination::Resolver,
    on_each_database,
    testing::{TestDatabase, certificates::Authority},
};
use taskey_proto::task::v1::Webhook;

use super::{
    receiver::{Answer, Receiver},
    start, to,
};
use crate::support::Service;

on_each_database!(
    private_addresses_are_refused_even_behind_a_name,
    a_name_that_resolves_differently_the_second_time_is_not_reached,
    redirects_are_not_followed,
    names_that_are_not_resolved_do_not_delay_other_accounts,
    receivers_need_a_trusted_certificate,
);

/// Returns a resolver of every name to these addresses, one after the other. The last one remains.
fn resolver(addresses: &'static [&'static str]) -> Resolver {
    let count = Arc::new(AtomicUsize::new(0));
    Resolver::from_fn(move |_, port| {
        let index = count.fetch_add(1, Ordering::SeqCst).min(addresses.len() - 1);
        let address: IpAddr = addresses[index].parse().expect("an address");
        Ok(vec![SocketAddr::new(address, port)])
    })
}

async fn private_addresses_are_refused_even_behind_a_name(database: TestDatabase) {
    let adjust = |config: &mut task_service::config::Config| config.tasks.webhooks.resolver = resolver(&["10.0.0.1"]);
    let service = Service::start_adjusted(&database, &[], adjust).await;
    let ann = service.user();
    let private = ["https://127.0.0.1/", "https://[::1]:8443/", "https://169.254.169.254/latest", "https://[fe80::1]/"];
    let disguised = ["https://0x7f.1/", "https://[::ffff:10.0.0.1]/", "https://internal.example/", "http://1.1.1.1/"];
    for url in private.iter().chain(&disguised) {
        let refused = ann.create_webhook(to(url)).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "webhook.url");
    }
    let public = ann.create_webhook(to("https://1.1.1.1/")).await.expect("a public address");
    let moved = ann.update_webhook(Webhook { url: "https://internal.example/".to_owned(), ..public }, &["url"]).await;
    assert_refused!(moved, InvalidArgument, "VALIDATION_FAILED", "webhook.url");
    service.stop().await;
}

async fn a_name_that_resolves_differently_the_second_time_is_not_reached(database: TestDatabase) {
    let receiver = Receiver::start().await;
    let adjust = |config: &mut task_service::config::Config| {
        config.tasks.webhooks.resolver = resolver(&["1.1.1.1", "127.0.0.1"]);
    };
    let service = Service::start_adjusted(&database, &[], adjust).await;
    let ann = service.user();
    let url = receiver.url_with_host("rebinding.example").replace("http:", "https:");
    let webhook = ann.create_webhook(to(&url)).await.expect("a public address");
    let attempt = ann.test_webhook(&webhook.id).await.expect("an attempt");
    assert_eq!(attempt.error, "the URL has a host with an address that is not public");
    ann.make("Buy milk").await;
    ann.failing_webhook(&webhook.id).await;
    assert_eq!(ann.attempts(&webhook.id).await[0].error, attempt.error);
    assert!(receiver.is_idle().await);
    service.stop().await;
}

async fn redirects_are_not_followed(database: TestDatabase) {
    let (service, receiver, target) = (start(&database).await, Receiver::start().await, Receiver::start().await);
    let ann = service.user();
    receiver.answer_with(Answer::Redirect(target.url()));
    let webhook = ann.create_webhook(to(&receiver.url())).await.expect("created");
    ann.make("Buy milk").await;
    ann.failing_webhook(&webhook.id).await;
    let attempt = &ann.attempts(&webhook.id).await[0];
    assert_eq!(attempt.error, "the receiver answered with status 307; redirects are not followed");
    assert!(target.is_idle().await);
    service.stop().await;
}

async fn names_that_are_not_resolved_do_not_delay_other_accounts(database: TestDatabase) {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let resolver = Resolver::from_fn(move |host, port| {
        if host.ends_with("slow.example") {
            // An error, when the test ends.
            _ = ended.lock().expect("not poisoned").recv();
        }
        Ok(vec![SocketAddr::new(IpAddr::from([1, 1, 1, 1]), port)])
    });
    let adjust = |config: &mut task_service::config::Config| config.tasks.webhooks.resolver = resolver;
    let service = Service::start_adjusted(&database, &[], adjust).await;
    let (ann, bob) = (service.user(), service.user());
    let refused =
        join_all((0..70).map(async |number| ann.create_webhook(to(&format!("https://{number}.slow.example/"))).await));
    for refused in refused.await {
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "webhook.url");
    }
    bob.create_webhook(to("https://fast.example/")).await.expect("the name is resolved");
    drop(end);
    service.stop().await;
}

async fn receivers_need_a_trusted_certificate(database: TestDatabase) {
    let folder = database.folder();
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let ca_file = trusted.write(folder, "trusted").display().to_string();
    let flags = [&super::ALLOW_LOOPBACK[..], &["--webhook-ca-file", &ca_file]].concat();
    let adjust = |config: &mut task_service::config::Config| config.tasks.webhooks.resolver = resolver(&["127.0.0.1"]);
    let service = Service::start_adjusted(&database, &flags, adjust).await;
    let ann = service.user();

    let receiver = Receiver::start_with_tls(&trusted.issue(&["hooks.example"]), folder).await;
    let webhook = ann.create_webhook(to(&receiver.url_with_host("hooks.example"))).await.expect("created");
    ann.make("Buy milk").await;
    assert_eq!(receiver.titles(1).await, ["Buy milk"]);
    ann.webhook_when(&webhook.id, |current| current.sync_token != webhook.sync_token).await;

    let untrusted = Receiver::start_with_tls(&other.issue(&["hooks.example"]), folder).await;
    let misnamed = Receiver::start_with_tls(&trusted.issue(&["other.example"]), folder).await;
    for receiver in [untrusted, misnamed] {
        let url = receiver.url_with_host("hooks.example");
        let webhook = ann.create_webhook(to(&url)).await.expect("created");
        let attempt = ann.test_webhook(&webhook.id).await.expect("an attempt");
        assert!(attempt.error.starts_with("TLS: the certificate of the server"), "{}", attempt.error);
        assert!(receiver.is_idle().await);
    }
    service.stop().await;
}
