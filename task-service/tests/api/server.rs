//! The server around the RPCs: limits, health, start and shutdown.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::task_service_client::TaskServiceClient;
use tokio::net::TcpListener;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::{
    support::{Service, titled},
    token::call_every_rpc,
};

on_each_database!(
    service_without_revocations_accepts_no_token,
    service_is_not_serving_while_its_feed_is_silent,
    too_large_request_is_refused,
    stopped_service_releases_its_port,
);

async fn service_without_revocations_accepts_no_token(database: TestDatabase) {
    let service = Service::start_cold(&database).await;
    let ann = service.user();
    service.wait_for_status(ServingStatus::NotServing).await;
    let refused = ann.get("").await.expect_err("no token is accepted");
    assert!(refused.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_refused!(Err::<(), _>(refused), Unavailable, "VERIFIER_NOT_READY");
    for (_, outcome) in call_every_rpc(&service.channel, &[&ann.header()]).await {
        assert_refused!(outcome, Unavailable, "VERIFIER_NOT_READY");
    }

    service.feed.set_sending(true);
    service.wait_for_status(ServingStatus::Serving).await;
    ann.make("Buy milk").await;
}

async fn service_is_not_serving_while_its_feed_is_silent(database: TestDatabase) {
    let service = Service::start_cold(&database).await;
    let ann = service.user();
    service.feed.set_sending(true);
    service.wait_for_status(ServingStatus::Serving).await;
    let task = ann.make("Buy milk").await;

    service.feed.set_sending(false);
    service.wait_for_status(ServingStatus::NotServing).await;
    assert_refused!(ann.get(&task.id).await, Unavailable, "VERIFIER_NOT_READY");

    service.feed.set_sending(true);
    service.wait_for_status(ServingStatus::Serving).await;
    ann.get(&task.id).await.expect("tokens are accepted again");
}

async fn too_large_request_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let outcome = ann.create(titled(&"a".repeat(256 * 1024))).await;
    assert_refused!(outcome, ResourceExhausted, "MESSAGE_TOO_LARGE");
}

async fn stopped_service_releases_its_port(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    ann.make("Buy milk").await;
    let address = service.address;
    let request = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(service.channel.clone())
        .check(request)
        .await
        .expect("the health service is reachable")
        .into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    service.stop().await;
    TcpListener::bind(address).await.expect("the port is free again");
    let outcome = TaskServiceClient::connect(format!("http://{address}")).await;
    assert!(outcome.is_err());
}
