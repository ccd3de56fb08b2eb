//! Calls of users.

use std::{sync::LazyLock, time::Duration};

use service_kit::testing::refusal;
use taskey_proto::{
    auth::v1::{
        GetMeRequest, LoginRequest, LogoutRequest, RefreshRequest, SignUpRequest, TokenPair, User,
        account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    },
    task::v1::{CreateTaskRequest, GetTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::process::{PASSWORD, bearer};

/// Longer than any call may take: the longest limit of the services is 5 s.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between retries, which leaves the CPU to other processes.
pub const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// The status of a call without a response. No service returns this code.
pub static NO_RESPONSE: LazyLock<Status> = LazyLock::new(|| Status::data_loss("no response"));

async fn with_timeout<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(NO_RESPONSE.clone())).map(Response::into_inner)
}

/// Calls until the database responds in time, which a busy machine may prevent.
pub async fn retry<T>(call: impl AsyncFn() -> Result<T, Status>) -> T {
    loop {
        match call().await {
            Ok(response) => return response,
            Err(status) => assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{status:?}"),
        }
        sleep(RETRY_PAUSE).await;
    }
}

pub async fn sign_up(auth: &Channel, email: &str) -> Result<User, Status> {
    let (email, password) = (email.to_owned(), PASSWORD.to_owned());
    let request = SignUpRequest { email, password, ..SignUpRequest::default() };
    with_timeout(AuthServiceClient::new(auth.clone()).sign_up(request)).await
}

pub async fn log_in(auth: &Channel, email: &str) -> Result<TokenPair, Status> {
    try_password(auth, email, PASSWORD).await
}

/// Logs in, and retries after the delay in the error. Returns the number of errors.
pub async fn log_in_with_retries(auth: Channel, email: String) -> usize {
    for errors in 0.. {
        let Err(status) = log_in(&auth, &email).await else { return errors };
        assert_eq!(reason(&status), "OVERLOADED", "{status:?}");
        sleep(retry_delay(&status).expect("an overload error has a delay")).await;
    }
    unreachable!("the login is retried")
}

pub async fn try_password(auth: &Channel, email: &str, password: &str) -> Result<TokenPair, Status> {
    let (email, password) = (email.to_owned(), password.to_owned());
    let request = LoginRequest { email, password, ..LoginRequest::default() };
    with_timeout(AuthServiceClient::new(auth.clone()).login(request)).await
}

/// Signs up and logs in.
pub async fn sign_up_and_log_in(auth: &Channel, email: &str) -> TokenPair {
    sign_up(auth, email).await.expect("signed up");
    log_in(auth, email).await.expect("logged in")
}

pub async fn refresh(auth: &Channel, refresh_token: &str) -> Result<TokenPair, Status> {
    let request = RefreshRequest { refresh_token: refresh_token.to_owned() };
    with_timeout(AuthServiceClient::new(auth.clone()).refresh(request)).await
}

pub async fn log_out(auth: &Channel, pair: &TokenPair) -> Result<(), Status> {
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), ..LogoutRequest::default() };
    with_timeout(AuthServiceClient::new(auth.clone()).logout(request)).await.map(|_| ())
}

pub async fn me(auth: &Channel, access_token: &str) -> Result<User, Status> {
    with_timeout(AccountServiceClient::new(auth.clone()).get_me(bearer(access_token, GetMeRequest {}))).await
}

/// Creates a task. Its notes repeat the title, so that a partially written task would be noticed.
pub async fn create(task: &Channel, access_token: &str, title: &str) -> Result<Task, Status> {
    let new_task = Some(Task { title: title.to_owned(), notes: title.repeat(10), ..Task::default() });
    let request = bearer(access_token, CreateTaskRequest { task: new_task, ..CreateTaskRequest::default() });
    with_timeout(TaskServiceClient::new(task.clone()).create_task(request)).await
}

pub async fn list(task: &Channel, access_token: &str) -> Result<Vec<Task>, Status> {
    let (mut tasks, mut client) = (Vec::new(), TaskServiceClient::new(task.clone()));
    let mut page = ListTasksRequest { page_size: 500, ..ListTasksRequest::default() };
    loop {
        let response = with_timeout(client.list_tasks(bearer(access_token, page.clone()))).await?;
        tasks.extend(response.tasks);
        if response.next_page_token.is_empty() {
            return Ok(tasks);
        }
        page.page_token = response.next_page_token;
    }
}

/// Checks that a verifier accepts a token. The call has an invalid id, so that it fails before it reaches the database.
pub async fn check_token(task: &Channel, access_token: &str) -> Result<(), Status> {
    let request = bearer(access_token, GetTaskRequest { id: "none".to_owned() });
    match with_timeout(TaskServiceClient::new(task.clone()).get_task(request)).await {
        Err(status) if status.code() == Code::InvalidArgument => Ok(()),
        Err(status) => Err(status),
        Ok(task) => panic!("a task with a wrong id: {task:?}"),
    }
}

/// Returns the reason of an error. Empty if the error does not come from a service.
pub fn reason(status: &Status) -> String {
    refusal(status).1
}

/// Returns the retry delay of an error.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Repeats a call until it fails with this reason. Panics after `limit`.
pub async fn wait_until_refused(task: &Channel, access_token: &str, expected: &str, limit: Duration) {
    let refused = async {
        while !check_token(task, access_token).await.is_err_and(|status| reason(&status) == expected) {
            sleep(RETRY_PAUSE).await;
        }
    };
    assert!(timeout(limit, refused).await.is_ok(), "not refused with {expected} within {limit:?}");
}
