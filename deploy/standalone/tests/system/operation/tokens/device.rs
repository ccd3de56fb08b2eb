//! `taskey token login --device`: the user allows the login elsewhere.

use std::process::ExitStatus;

use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{
    ApproveDeviceAuthorizationRequest, DenyDeviceAuthorizationRequest, DeviceAuthorization,
    device_authorization_service_client::DeviceAuthorizationServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout},
};

use super::{EMAIL, start_taskey, start_with_user, user::User};
use crate::{
    faults::users::{check_token, log_in, sign_up},
    process::{Process, bearer},
};

/// A command that waits for the decision of its user.
struct Waiting {
    process: Child,
    stdout: BufReader<ChildStdout>,
    user_code: String,
}

impl Waiting {
    /// Starts the command, and reads the address and the code that it prints.
    async fn start(user: &User, arguments: &[&str]) -> Self {
        let mut process = user.command(&[&["login", "--device"], arguments].concat()).spawn().expect("it starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            stdout.read_line(line).await.expect("UTF-8");
        }
        let start = format!("Open {}/device in a browser, and enter the code ", user.url);
        let user_code = lines[0].strip_prefix(&start).expect("an address and a code").trim_end().to_owned();
        assert_eq!(lines[1], format!("With the code filled in: {}/device#{user_code}\n", user.url));
        Self { process, stdout, user_code }
    }

    /// Waits for the end of the command, and returns what it has printed since.
    async fn end(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).await.expect("UTF-8");
        let mut stderr = self.process.stderr.take().expect("piped");
        stderr.read_to_string(&mut text).await.expect("UTF-8");
        (self.process.wait().await.expect("it ends"), text)
    }
}

/// The user who decides, on another device.
async fn session(taskey: &Process) -> String {
    log_in(&taskey.channel("auth"), EMAIL).await.expect("logged in").access_token
}

async fn approve(taskey: &Process, waiting: &Waiting) -> DeviceAuthorization {
    let request = ApproveDeviceAuthorizationRequest { user_code: waiting.user_code.clone() };
    let mut client = DeviceAuthorizationServiceClient::new(taskey.channel("auth"));
    let request = bearer(&session(taskey).await, request);
    client.approve_device_authorization(request).await.expect("approved").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_waits_until_the_user_allows_it() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    sign_up(&taskey.channel("auth"), EMAIL).await.expect("signed up");
    let user = User::of(taskey.address("gateway"));
    let waiting = Waiting::start(&user, &[]).await;
    assert!(!user.file().1, "nothing is stored yet");
    let shown = approve(&taskey, &waiting).await;
    assert_eq!((&shown.client_id[..], shown.scopes.len()), ("taskey token", 0));
    let (status, text) = waiting.end().await;
    assert!(status.success() && text.starts_with("logged in; the tokens are in "), "{text}");
    check_token(&taskey.channel("task"), &user.print().await).await.expect("accepted");
    user.expire();
    check_token(&taskey.channel("task"), &user.print().await).await.expect("refreshed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_is_limited_to_scopes_and_replaces_the_stored_session() {
    let database = TestDatabase::sqlite();
    let (taskey, user) = start_with_user(&database).await;
    let before = user.print().await;
    let waiting = Waiting::start(&user, &["--scope", "account.read"]).await;
    assert_eq!(user.print().await, before, "the stored session is used until then");
    assert_eq!(approve(&taskey, &waiting).await.scopes, ["account.read"]);
    let (status, text) = waiting.end().await;
    assert!(status.success(), "{text}");
    let error = check_token(&taskey.channel("task"), &user.print().await).await.expect_err("refused");
    assert_eq!(service_kit::testing::refusal(&error).1, "SCOPE_MISSING");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_login_stores_nothing() {
    let database = TestDatabase::sqlite();
    let taskey = start_taskey(&database, &[]).await;
    sign_up(&taskey.channel("auth"), EMAIL).await.expect("signed up");
    let user = User::of(taskey.address("gateway"));
    let waiting = Waiting::start(&user, &[]).await;
    let request = DenyDeviceAuthorizationRequest { user_code: waiting.user_code.clone() };
    let request = bearer(&session(&taskey).await, request);
    let mut client = DeviceAuthorizationServiceClient::new(taskey.channel("auth"));
    client.deny_device_authorization(request).await.expect("refused");
    let (status, text) = waiting.end().await;
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("AUTHORIZATION_DENIED: the user has refused the device"), "{text}");
    assert!(!user.file().1);
}
