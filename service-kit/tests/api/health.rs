//! The health service: unknown services, and the limit of open watches.

use futures::FutureExt;
use service_kit::{
    assert_refused,
    server::health::{ServingStatus, Statuses, health_server},
};
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};

use crate::server::{Server, empty};

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Result<ServingStatus, Status> {
    watch.message().await.map(|message| message.expect("not the end").status())
}

/// Returns a client of a health service in this process, whose server is healthy, and the statuses.
fn in_process() -> (watch::Sender<Statuses>, HealthClient<HealthServer<impl Health>>) {
    let (sender, statuses) = watch::channel(Statuses::from([(String::new(), ServingStatus::Serving)]));
    (sender, HealthClient::new(health_server(statuses)))
}

#[tokio::test]
async fn health_watch_of_an_unknown_service_stays_open() {
    let server = Server::start(&[], empty).await;
    let mut client = HealthClient::new(server.channel.clone());
    let mut unknown = client.watch(request("no.such.Service")).await.expect("accepted").into_inner();
    assert_eq!(next(&mut unknown).await.expect("a status"), ServingStatus::ServiceUnknown);
    assert_refused!(client.check(request("no.such.Service")).await, NotFound, "METHOD_UNKNOWN");
    server.shutdown.cancel();
    // Until the shutdown, the stream was open and sent nothing.
    assert_refused!(next(&mut unknown).await, Unavailable, "SHUTTING_DOWN");
}

#[tokio::test]
async fn health_watch_receives_the_status_of_a_service_that_is_added_later() {
    let (sender, mut client) = in_process();
    let mut watch = client.watch(request("later.Service")).await.expect("accepted").into_inner();
    assert_eq!(next(&mut watch).await.expect("a status"), ServingStatus::ServiceUnknown);
    sender.send_modify(|statuses| _ = statuses.insert("other.Service".to_owned(), ServingStatus::Serving));
    assert!(watch.message().now_or_never().is_none(), "the status has not changed");
    for status in [ServingStatus::NotServing, ServingStatus::Serving] {
        sender.send_modify(|statuses| _ = statuses.insert("later.Service".to_owned(), status));
        assert_eq!(next(&mut watch).await.expect("a status"), status);
    }
}

#[tokio::test]
async fn number_of_health_watches_of_a_client_is_limited() {
    let (_sender, mut client) = in_process();
    let mut watches = Vec::new();
    let refused = loop {
        match client.watch(request("")).await {
            Ok(response) => watches.push(response.into_inner()),
            Err(status) => break status,
        }
        assert!(watches.len() <= 64, "{} watches are open", watches.len());
    };
    assert_eq!((watches.len(), refused.code()), (64, Code::ResourceExhausted));
    assert_refused!(Err::<(), _>(refused), ResourceExhausted, "OVERLOADED");
    client.check(request("")).await.expect("checks are not limited");
    watches.pop();
    client.watch(request("")).await.expect("a closed watch does not count");
}
