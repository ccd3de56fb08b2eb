//! Replicas of each service that share one PostgreSQL database and nothing else.

use std::time::Duration;

use service_kit::{assert_refused, testing::TestDatabase};
use taskey_proto::{
    auth::v1::{
        LoginRequest, LogoutRequest, RefreshRequest, SignUpRequest, TokenPair, auth_service_client::AuthServiceClient,
    },
    task::v1::{ListTasksRequest, task_service_client::TaskServiceClient},
};
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

use super::processes::{PASSWORD, Process, Taskey, bearer};

/// The documented limit for revocations.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

fn auth(process: &Process) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(process.channel("auth"))
}

pub async fn sign_up_and_log_in(process: &Process, email: &str) -> TokenPair {
    let (email, password) = (email.to_owned(), PASSWORD.to_owned());
    let new = SignUpRequest { email: email.clone(), password: password.clone(), ..SignUpRequest::default() };
    auth(process).sign_up(new).await.expect("signed up");
    let login = LoginRequest { email, password, ..LoginRequest::default() };
    auth(process).login(login).await.expect("logged in").into_inner()
}

async fn logout(process: &Process, pair: &TokenPair) {
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), ..LogoutRequest::default() };
    auth(process).logout(request).await.expect("logged out");
}

async fn list(process: &Process, pair: &TokenPair) -> Result<(), Status> {
    let request = bearer(&pair.access_token, ListTasksRequest::default());
    TaskServiceClient::new(process.channel("task")).list_tasks(request).await.map(|_| ())
}

async fn wait_until_refused(process: &Process, pair: &TokenPair) -> Status {
    loop {
        if let Err(status) = list(process, pair).await {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_spans_replicas() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, auth_1, task_0, task_1] = Taskey::start_replicas(&database).await;
    let first = sign_up_and_log_in(&auth_0, "ann@example.com").await;
    let request = RefreshRequest { refresh_token: first.refresh_token.clone() };
    let second = auth(&auth_1).refresh(request.clone()).await.expect("refreshed").into_inner();
    let again = auth(&auth_0).refresh(request).await.expect("the same child").into_inner();
    assert_eq!(again.refresh_token, second.refresh_token);
    for task in [&task_0, &task_1] {
        list(task, &second).await.expect("accepted");
    }
    logout(&auth_1, &second).await;
    for task in [&task_0, &task_1] {
        let status =
            timeout(REVOCATION_LIMIT, wait_until_refused(task, &second)).await.expect("refused within a second");
        assert_refused!(Err::<(), _>(status), Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_switches_replicas_when_its_replica_is_killed() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, auth_1, task_0, task_1] = Taskey::start_replicas(&database).await;
    let (ann, bob) =
        (sign_up_and_log_in(&auth_0, "ann@example.com").await, sign_up_and_log_in(&auth_0, "bob@example.com").await);
    auth_0.kill();
    logout(&auth_1, &ann).await;
    for task in [&task_0, &task_1] {
        // The verifier of the killed replica needs some time to switch to the other.
        let status = timeout(Duration::from_secs(10), wait_until_refused(task, &ann)).await.expect("refused");
        assert_refused!(Err::<(), _>(status), Unauthenticated, "TOKEN_REVOKED");
        list(task, &bob).await.expect("accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_logout_is_effective_at_its_verifiers_when_it_returns() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, _auth_1, task_0, task_1] = Taskey::start_replicas(&database).await;
    for round in 0..10 {
        let pair = sign_up_and_log_in(&auth_0, &format!("{round}@example.com")).await;
        list(&task_0, &pair).await.expect("accepted");
        let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), wait_for_verifiers: true };
        let response = auth(&auth_0).logout(request).await.expect("logged out").into_inner();
        // The other task-service is connected to the other auth-service.
        assert_eq!(response.acknowledged_verifiers, 1);
        assert_refused!(list(&task_0, &pair).await, Unauthenticated, "TOKEN_REVOKED");
        let status =
            timeout(REVOCATION_LIMIT, wait_until_refused(&task_1, &pair)).await.expect("refused within a second");
        assert_refused!(Err::<(), _>(status), Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_waits_at_most_a_second_for_a_hanging_verifier() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let [auth_0, _auth_1, task_0, _task_1] = Taskey::start_replicas(&database).await;
    let pair = sign_up_and_log_in(&auth_0, "ann@example.com").await;
    task_0.signal("STOP");
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), wait_for_verifiers: true };
    let response = auth(&auth_0).logout(request.clone()).await.expect("logged out").into_inner();
    assert_eq!(response.acknowledged_verifiers, 0);
    task_0.signal("CONT");
    let again =
        async || auth(&auth_0).logout(request.clone()).await.expect("again").into_inner().acknowledged_verifiers;
    let caught_up = async { while again().await == 0 {} };
    timeout(Duration::from_secs(20), caught_up).await.expect("the verifier confirms the missed revocation");
    assert_refused!(list(&task_0, &pair).await, Unauthenticated, "TOKEN_REVOKED");
}
