//! What people do, one call at a time.

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

/// The longest that a call may take by the limits of the services is 5 s; a person waits longer than that.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks again and again leaves the machine to the others for so long.
pub const BREATH: Duration = Duration::from_millis(2);

/// Nobody has answered. No service says that.
pub static NO_ANSWER: LazyLock<Status> = LazyLock::new(|| Status::data_loss("no answer"));

async fn patiently<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(NO_ANSWER.clone())).map(Response::into_inner)
}

pub async fn sign_up(auth: &Channel, email: &str) -> Result<User, Status> {
    let (email, password) = (email.to_owned(), PASSWORD.to_owned());
    let request = SignUpRequest { email, password, ..SignUpRequest::default() };
    patiently(AuthServiceClient::new(auth.clone()).sign_up(request)).await
}

pub async fn log_in(auth: &Channel, email: &str) -> Result<TokenPair, Status> {
    try_password(auth, email, PASSWORD).await
}

pub async fn try_password(auth: &Channel, email: &str, password: &str) -> Result<TokenPair, Status> {
    let (email, password) = (email.to_owned(), password.to_owned());
    let request = LoginRequest { email, password, ..LoginRequest::default() };
    patiently(AuthServiceClient::new(auth.clone()).login(request)).await
}

/// Somebody who has just signed up and logged in.
pub async fn person(auth: &Channel, email: &str) -> TokenPair {
    sign_up(auth, email).await.expect("signed up");
    log_in(auth, email).await.expect("logged in")
}

pub async fn refresh(auth: &Channel, refresh_token: &str) -> Result<TokenPair, Status> {
    let request = RefreshRequest { refresh_token: refresh_token.to_owned() };
    patiently(AuthServiceClient::new(auth.clone()).refresh(request)).await
}

pub async fn log_out(auth: &Channel, pair: &TokenPair) -> Result<(), Status> {
    let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), ..LogoutRequest::default() };
    patiently(AuthServiceClient::new(auth.clone()).logout(request)).await.map(|_| ())
}

pub async fn me(auth: &Channel, access_token: &str) -> Result<User, Status> {
    patiently(AccountServiceClient::new(auth.clone()).get_me(bearer(access_token, GetMeRequest {}))).await
}

/// Notes repeat the title, so that half a task would be found out.
pub async fn create(task: &Channel, access_token: &str, title: &str) -> Result<Task, Status> {
    let task_made = Some(Task { title: title.to_owned(), notes: title.repeat(10), ..Task::default() });
    let request = bearer(access_token, CreateTaskRequest { task: task_made, ..CreateTaskRequest::default() });
    patiently(TaskServiceClient::new(task.clone()).create_task(request)).await
}

pub async fn list(task: &Channel, access_token: &str) -> Result<Vec<Task>, Status> {
    let (mut tasks, mut client) = (Vec::new(), TaskServiceClient::new(task.clone()));
    let mut page = ListTasksRequest { page_size: 500, ..ListTasksRequest::default() };
    loop {
        let answer = patiently(client.list_tasks(bearer(access_token, page.clone()))).await?;
        tasks.extend(answer.tasks);
        if answer.next_page_token.is_empty() {
            return Ok(tasks);
        }
        page.page_token = answer.next_page_token;
    }
}

/// Whether a verifier accepts a token, found out by a call that ends before it reaches the database: its id is none.
pub async fn knock(task: &Channel, access_token: &str) -> Result<(), Status> {
    let request = bearer(access_token, GetTaskRequest { id: "none".to_owned() });
    match patiently(TaskServiceClient::new(task.clone()).get_task(request)).await {
        Err(status) if status.code() == Code::InvalidArgument => Ok(()),
        Err(status) => Err(status),
        Ok(task) => panic!("a task with a wrong id: {task:?}"),
    }
}

/// The reason in a refusal; empty if a service did not give one, or did not make the answer at all.
pub fn reason(status: &Status) -> String {
    refusal(status).1
}

/// How long a refusal says to wait.
pub fn wait(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Asks until the answer has this reason, and gives up after a time.
pub async fn until_refused(task: &Channel, access_token: &str, expected: &str, limit: Duration) {
    let refused = async {
        while !knock(task, access_token).await.is_err_and(|status| reason(&status) == expected) {
            sleep(BREATH).await;
        }
    };
    assert!(timeout(limit, refused).await.is_ok(), "not refused with {expected} within {limit:?}");
}
