//! Several replicas of a service.

use http::Method;
use tokio::net::TcpListener;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    fake_backend::{FakeBackend, Reply},
    program::{Program, UNREACHABLE, with_header},
    site::{settings, task_reply},
    support::TestResponse,
};

/// Starts a replica of task-service with this health.
async fn replica(health: ServingStatus) -> FakeBackend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    FakeBackend::start_on(listener.into(), Reply::from_fn(task_reply), Some(health))
}

/// Starts a gateway, and waits until it has checked the health of these replicas of task-service. Returns auth-service,
/// too, which stops when it is dropped.
async fn start(replicas: &[&str]) -> (Program, FakeBackend) {
    let auth = replica(ServingStatus::Serving).await;
    let program = Program::start(settings(&auth.url(), &replicas.join(","), &[])).await;
    program.get("/readyz").await;
    (program, auth)
}

async fn get(program: &Program) -> TestResponse {
    let request = program.request(Method::GET, "/v1/tasks/x", "");
    program.send(with_header(request, "authorization", "Bearer a")).await
}

#[tokio::test]
async fn calls_are_balanced_over_replicas() {
    let replicas = [replica(ServingStatus::Serving).await, replica(ServingStatus::Serving).await];
    let (program, _auth) = start(&replicas.each_ref().map(FakeBackend::url).each_ref().map(String::as_str)).await;
    for _ in 0..10 {
        get(&program).await.ok();
    }
    assert_eq!(replicas.map(|replica| replica.calls().len()), [5, 5]);
}

#[tokio::test]
async fn replicas_that_do_not_serve_get_no_calls() {
    let [serving, not_serving] = [replica(ServingStatus::Serving).await, replica(ServingStatus::NotServing).await];
    let (program, _auth) = start(&[UNREACHABLE, &not_serving.url(), &serving.url()]).await;
    assert_eq!(program.get("/readyz").await.code, 200, "one replica is enough");
    for _ in 0..10 {
        get(&program).await.ok();
    }
    assert_eq!((serving.calls().len(), not_serving.was_called()), (10, false));
}

#[tokio::test]
async fn calls_to_a_replica_that_has_died_are_made_to_another_one() {
    let [dying, other] = [replica(ServingStatus::Serving).await, replica(ServingStatus::Serving).await];
    let (program, _auth) = start(&[&dying.url(), &other.url()]).await;
    get(&program).await.ok();
    drop(dying);
    for _ in 0..10 {
        get(&program).await.ok();
        // The request was not sent, so that a write is repeated as well.
        let create = program.request(Method::POST, "/v1/tasks", r#"{"title":"x"}"#);
        program.send(with_header(create, "authorization", "Bearer a")).await.ok();
    }
}
