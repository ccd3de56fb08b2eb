//! Valid and invalid calls that involve secrets.

use std::{collections::BTreeMap, env, time::Duration};

use prost_reflect::prost::Message;
use service_kit::{assert_refused, random};
use taskey_proto::{
    auth::v1::{
        AuthorizeDeviceRequest, AuthorizeDeviceResponse, ChangePasswordRequest, ChangePasswordResponse,
        CreatePersonalAccessTokenRequest, CreateServiceAccountRequest, GetMeRequest, IntrospectRequest,
        IntrospectResponse, LoginRequest, PersonalAccessToken, RefreshRequest, ServiceAccount, SignUpRequest,
        TokenPair, User, WatchRevocationsRequest, token_service_client::TokenServiceClient,
    },
    task::v1::{
        CreateTaskListRequest, CreateTaskRequest, CreateWebhookRequest, DeleteWebhookRequest, GetTaskRequest,
        Recurrence, Reminder, Task, TaskList, Webhook, reminder,
    },
};
use tokio::time::timeout;
use tonic::Status;

use super::{calls::Rpc, mistakes::SecretRotation, recorder::Recorder, secrets::Secrets};
use crate::process::bearer;

pub const SIGN_UP: &str = "/taskey.auth.v1.AuthService/SignUp";
pub const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
pub const REFRESH: &str = "/taskey.auth.v1.AuthService/Refresh";
pub const LIST_TASKS: &str = "/taskey.task.v1.TaskService/ListTasks";
pub const CHANGE_PASSWORD: &str = "/taskey.auth.v1.AccountService/ChangePassword";
const INTROSPECT: &str = "/taskey.auth.v1.TokenService/Introspect";
const CREATE_LIST: &str = "/taskey.task.v1.TaskListService/CreateTaskList";
const CREATE_TOKEN: &str = "/taskey.auth.v1.PersonalAccessTokenService/CreatePersonalAccessToken";
const CREATE_SERVICE_ACCOUNT: &str = "/taskey.auth.v1.AdminService/CreateServiceAccount";
const AUTHORIZE_DEVICE: &str = "/taskey.auth.v1.OAuthService/AuthorizeDevice";
const GET_ME: &str = "/taskey.auth.v1.AccountService/GetMe";
const CREATE_TASK: &str = "/taskey.task.v1.TaskService/CreateTask";
const GET_TASK: &str = "/taskey.task.v1.TaskService/GetTask";
const CREATE_WEBHOOK: &str = "/taskey.task.v1.WebhookService/CreateWebhook";
const DELETE_WEBHOOK: &str = "/taskey.task.v1.WebhookService/DeleteWebhook";
/// A file with a task, in the JSON Lines of Taskey.
const FILE: &str = "{\"format\":\"taskey\",\"version\":1}\n{\"task\":{\"id\":\"1\",\"title\":\"Buy milk\"}}\n\
    {\"end\":{\"tasks\":1}}\n";
/// The time of reminders that do not fire, in seconds.
const FAR_FUTURE: &str = "4102444800";
/// The receiver of webhooks, which refuses connections.
const RECEIVER: &str = "http://127.0.0.1:9/";
/// The RPCs that fail because the programs of the test send no mails.
const NEED_MAIL: [&str; 7] = [
    "/RequestEmailVerification",
    "/VerifyEmail",
    "/ConfirmEmailChange",
    "/UndoEmailChange",
    "/RequestPasswordReset",
    "/ResetPassword",
    "/RetryMail",
];
/// The RPCs that fail because the accounts of the test have no second factor.
const NEED_FACTOR: [&str; 5] =
    ["/CompleteLogin", "/ConfirmTotp", "/UpdateFactor", "/DeleteFactor", "/RegenerateRecoveryCodes"];
/// The RPCs that fail because the programs of the test have no URL to which passkeys could belong.
const NEED_SITE: [&str; 5] =
    ["/BeginPasskey", "/FinishPasskey", "/BeginPasskeyLogin", "/FinishPasskeyLogin", "/BeginPasskeyReauthentication"];
pub const JSON: &str = "content-type: application/json";

/// The email address of the first user.
pub const ANN: &str = "ann.the.administrator@example.com";

/// A text that would start a line if a line break were not escaped.
pub const FORGED: &str = "FORGED: a line of somebody else's";

/// A text that no program logs.
pub const PLANTED: &str = "planted after the end of the log";

pub struct Scenario {
    pub recorder: Recorder,
    pub secrets: Secrets,
}

/// A user with a session.
pub struct Account {
    pub email: String,
    pub password: String,
    pub pair: TokenPair,
}

impl Scenario {
    /// Runs all calls and returns the secrets that were involved.
    pub async fn run(recorder: Recorder) -> (Recorder, Secrets) {
        let mut scenario = Self { recorder, secrets: Secrets::default() };
        scenario.add_secrets_in_files();
        let keys = scenario.recorder.path("keys.json");
        let rotation = ["keys", "rotate", "--key-file", &keys, "--publish-for", "5s"];
        let mut rotation = scenario.recorder.command(&rotation).spawn().expect("the program runs");
        let service = scenario.recorder.output(&["tokens", "issue-service", "probe"]).trim().to_owned();
        let random = service.strip_prefix("taskey_service_").expect("a service token");
        scenario.secrets.add_encoded("a service token", random);

        let mut ann = scenario.sign_up_and_log_in(ANN).await;
        scenario.recorder.output(&["users", "set-role", ANN, "admin"]);
        scenario.call_every_rpc(&ann).await;
        ann.pair = scenario.log_in(ANN, &ann.password).await.expect("logged in");
        scenario.introspect(&service, &ann).await;
        let ann = scenario.change_passwords(ann).await;
        let eve = scenario.sign_up_and_log_in("eve@example.com").await;
        let sue = scenario.sign_up_and_log_in("sue@example.com").await;
        let secrets = [&eve.password, &eve.pair.refresh_token, &eve.pair.access_token, &service];
        // With all rounds, each secret gets into each field.
        let rounds = if env::var_os("TASKEY_TEST_ROUNDS").is_some() { secrets.len() } else { 1 };
        for round in 0..rounds {
            let secrets = SecretRotation { secrets: secrets.map(Clone::clone).to_vec(), next_index: round.into() };
            scenario.call_with_secrets(&ann, &sue, &secrets).await;
            scenario.misplace_secrets(&secrets).await;
        }
        scenario.send_undecodable_requests(&eve.password).await;
        scenario.inject_lines(&eve).await;
        scenario.guess_passwords().await;
        scenario.call_during_database_faults(&ann).await;
        assert!(rotation.wait().expect("the program exits").success(), "the keys were not rotated");
        // Broken connections to the database are detected one by one.
        let mut errors = BTreeMap::<String, usize>::new();
        let recovery = async {
            while let Err(status) = scenario.log_in(&ann.email, &ann.password).await {
                *errors.entry(status.message().to_owned()).or_default() += 1;
            }
        };
        let recovered = timeout(Duration::from_secs(60), recovery).await;
        assert!(recovered.is_ok(), "the service has not recovered: {errors:?}");
        scenario.add_secrets_in_files();
        (scenario.recorder, scenario.secrets)
    }

    /// Adds the keys and the other secrets in files.
    fn add_secrets_in_files(&mut self) {
        let read = |name: &str| std::fs::read_to_string(self.recorder.path(name)).unwrap_or_default();
        let keys: serde_json::Value = serde_json::from_str(&read("keys.json")).expect("a JWK Set");
        let keys: Vec<_> = keys["keys"].as_array().expect("keys").iter().map(|key| key["k"].clone()).collect();
        let (refresh, gateway) = (read("refresh.secret"), read("gateway.token"));
        for key in keys {
            self.secrets.add_encoded("a key", key.as_str().expect("a shared key"));
        }
        self.secrets.add_encoded("the secret of the refresh tokens", refresh.trim());
        if let Some(token) = gateway.trim().strip_prefix("taskey_service_") {
            self.secrets.add_encoded("the token of the gateway", token);
        }
    }

    /// Returns a password with a secret part, surrounded by characters that need escapes.
    pub fn password(&mut self, owner: &str) -> String {
        let secret = format!("{:032x}", u128::from_be_bytes(random::bytes()));
        self.secrets.add(&format!("a password of {owner}"), secret.as_bytes());
        format!("a \"{secret}\" & b/?%")
    }

    fn add_tokens(&mut self, pair: &TokenPair) {
        let signature = pair.access_token.rsplit('.').next().expect("three parts");
        self.secrets.add("an access token", pair.access_token.as_bytes());
        self.secrets.add_encoded("the signature of an access token", signature);
        self.secrets.add_encoded("a refresh token", &pair.refresh_token);
    }

    pub async fn call<R: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
        token: &str,
    ) -> Result<R, Status> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &bearer[..])];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        let response = self.recorder.grpc(path, message.encode_to_vec(), headers).await;
        response.map(|response| R::decode(&response[..]).expect("the response is valid"))
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> Result<TokenPair, Status> {
        let (email, password) = (email.to_owned(), password.to_owned());
        let pair: TokenPair = self.call(LOGIN, &LoginRequest { email, password, ..Default::default() }, "").await?;
        self.add_tokens(&pair);
        Ok(pair)
    }

    /// Signs up and logs in, first over HTTP and then over gRPC, and refreshes.
    pub async fn sign_up_and_log_in(&mut self, email: &str) -> Account {
        let (email, password) = (email.to_owned(), self.password(email));
        let body = serde_json::json!({"email": email, "password": password}).to_string().into_bytes();
        let (status, response) = self.recorder.http("POST", "/v1/auth/signup", &[JSON], &body).await;
        assert_eq!(status, 200, "{response}");
        let (status, response) = self.recorder.http("POST", "/v1/auth/login", &[JSON], &body).await;
        assert_eq!(status, 200, "{response}");
        let response: serde_json::Value = serde_json::from_str(&response).expect("JSON");
        let member = |name: &str| response[name].as_str().expect("a text").to_owned();
        let (access_token, refresh_token) = (member("accessToken"), member("refreshToken"));
        self.add_tokens(&TokenPair { access_token, refresh_token, ..TokenPair::default() });
        let new = SignUpRequest { email: email.clone(), password: password.clone(), ..Default::default() };
        assert_refused!(self.call::<User>(SIGN_UP, &new, "").await, AlreadyExists, "EMAIL_TAKEN", "email");
        let pair = self.log_in(&email, &password).await.expect("logged in");
        let refresh = RefreshRequest { refresh_token: pair.refresh_token };
        let pair = self.call(REFRESH, &refresh, "").await.expect("refreshed");
        self.add_tokens(&pair);
        Account { email, password, pair }
    }

    /// Calls every RPC with valid requests, over gRPC and over HTTP. Logins, refreshes and calls with a password are
    /// made elsewhere.
    async fn call_every_rpc(&mut self, ann: &Account) {
        let bob = self.sign_up_and_log_in("bob@example.com").await;
        let bob_id = bob.pair.user.as_ref().expect("login returns the user").id.clone();
        for rpc in Rpc::all().iter().filter(|rpc| ![LOGIN, REFRESH].contains(&&rpc.path[..]) && !rpc.takes_password()) {
            for over_http in [false, true] {
                // Some RPCs end sessions.
                let session = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let other_session = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let recurrence = Some(Recurrence { rrule: "FREQ=DAILY".to_owned(), ..Recurrence::default() });
                let (title, due_date) = ("Buy milk".to_owned(), "2090-01-31".to_owned());
                let task = Some(Task { title, due_date, recurrence, ..Task::default() });
                let task: Task = self
                    .call(
                        CREATE_TASK,
                        &CreateTaskRequest { task, ..CreateTaskRequest::default() },
                        &session.access_token,
                    )
                    .await
                    .expect("created");
                let task_list = Some(TaskList { title: "Shopping".to_owned(), ..TaskList::default() });
                let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
                let list: TaskList = self.call(CREATE_LIST, &request, &session.access_token).await.expect("created");
                let is_personal = rpc.path.contains("PersonalAccessTokenService");
                let personal_id =
                    if is_personal { self.create_token(&session.access_token).await } else { String::new() };
                let is_service_account = rpc.path.contains("ServiceAccount");
                let service_account_id = if is_service_account {
                    self.create_service_account(&session.access_token).await
                } else {
                    String::new()
                };
                let is_device = rpc.path.contains("DeviceAuthorizationService");
                let user_code = if is_device { self.request_device_codes().await } else { String::new() };
                let is_webhook = rpc.path.contains("WebhookService");
                let webhook_id =
                    if is_webhook { self.create_webhook(&session.access_token).await } else { String::new() };
                let is_reminder = rpc.path.ends_with("Reminder");
                let reminder =
                    if is_reminder { self.fire_reminder(&session.access_token).await } else { Task::default() };
                let new = format!("new.{over_http}@example.com");
                let texts = |field: &str| {
                    let text = match field {
                        "id" if is_personal => &personal_id,
                        "id" if is_service_account => &service_account_id,
                        "grant_type" => "refresh_token",
                        "client_id" => "taskey",
                        "user_code" => &user_code,
                        "label" => "Backup",
                        "scopes" if rpc.path.contains("/Create") => "tasks.read",
                        "networks" => "192.0.2.0/24",
                        "id" | "webhook_id" if is_webhook => &webhook_id,
                        "url" => RECEIVER,
                        "format" if rpc.path.ends_with("/ImportTasks") => "1",
                        "content" => FILE,
                        "task_id" if is_reminder => &reminder.id,
                        "reminder_id" => &reminder.reminders[0].id,
                        "remind_time" => FAR_FUTURE,
                        "rrule" => "FREQ=DAILY",
                        "start_date" | "due_date" => "2026-11-30",
                        "id" if rpc.path.contains("TaskService") => &task.id,
                        "id" if rpc.path.contains("TaskListService") => &list.id,
                        "title" => "Buy more milk",
                        "display_name" => "Ann",
                        "user_id" => &bob_id,
                        "session_id" => &other_session.session_id,
                        "roles" if rpc.path.ends_with("SetUserRoles") => "verifier",
                        "filter" if is_webhook || rpc.path.contains("TaskService") => "milk",
                        "filter" => "role:admin",
                        "email" if rpc.path == SIGN_UP => &new,
                        "password" => &bob.password,
                        "refresh_token" => &other_session.refresh_token,
                        "token" => &session.access_token,
                        _ => return None,
                    };
                    Some(text.to_owned())
                };
                let authorization = format!("Bearer {}", session.access_token);
                let succeeded = if over_http {
                    let request = rpc.http(&texts);
                    let headers = [JSON, &format!("authorization: {authorization}")];
                    let headers = if request.body.is_empty() { &headers[1..] } else { &headers };
                    self.recorder.http(&request.verb, &request.path, headers, &request.body).await.0 == 200
                } else {
                    let headers = [("authorization", &authorization[..])];
                    self.recorder.grpc(&rpc.path, rpc.message(&texts), &headers).await.is_ok()
                };
                // Most RPCs of TokenService need a service token, and the endpoints of OAuth 2.0 accept only forms over HTTP.
                let mut impossible = NEED_MAIL.iter().chain(&NEED_FACTOR).chain(&NEED_SITE);
                let is_possible = !impossible.any(|name| rpc.path.ends_with(name));
                let needs_form = over_http && rpc.path.contains(".OAuthService/");
                let needs_service = rpc.path.contains(".TokenService/") && !rpc.path.ends_with("GetJwks");
                let expected = is_possible && !needs_form && !needs_service;
                assert_eq!(succeeded, expected, "{}, over HTTP: {over_http}", rpc.path);
                if is_webhook {
                    // An account has few webhooks. The RPC may have deleted this one.
                    let request = DeleteWebhookRequest { id: webhook_id, ..DeleteWebhookRequest::default() };
                    _ = self.call::<Webhook>(DELETE_WEBHOOK, &request, &session.access_token).await;
                }
            }
        }
    }

    /// Creates a personal access token, uses it, and returns its id.
    async fn create_token(&mut self, access_token: &str) -> String {
        let (label, scopes) = ("Export".to_owned(), vec!["account.read".to_owned()]);
        let request = CreatePersonalAccessTokenRequest { label, scopes, ..Default::default() };
        let token: PersonalAccessToken = self.call(CREATE_TOKEN, &request, access_token).await.expect("created");
        self.secrets.add("a personal access token", token.secret.as_bytes());
        let _: User = self.call(GET_ME, &GetMeRequest {}, &token.secret).await.expect("permitted");
        token.id
    }

    /// Creates a service account, and returns its id.
    async fn create_service_account(&mut self, access_token: &str) -> String {
        let (label, scopes) = ("billing".to_owned(), vec!["tasks.read".to_owned()]);
        let request = CreateServiceAccountRequest { label, scopes, ..Default::default() };
        let account: ServiceAccount = self.call(CREATE_SERVICE_ACCOUNT, &request, access_token).await.expect("created");
        let random = account.secret.strip_prefix("taskey_client_").expect("a secret");
        self.secrets.add_encoded("the secret of a service account", random);
        account.id
    }

    /// Creates a webhook, and returns its id.
    async fn create_webhook(&mut self, access_token: &str) -> String {
        let webhook = Some(Webhook { url: RECEIVER.to_owned(), ..Webhook::default() });
        let request = CreateWebhookRequest { webhook, ..CreateWebhookRequest::default() };
        let webhook: Webhook = self.call(CREATE_WEBHOOK, &request, access_token).await.expect("created");
        self.secrets.add("the secret of a webhook", webhook.secret.as_bytes());
        webhook.id
    }

    /// Creates a task with a reminder, and returns it when the reminder has fired.
    async fn fire_reminder(&mut self, access_token: &str) -> Task {
        let time = Some(reminder::Time::RemindTime(prost_types::Timestamp { seconds: 0, nanos: 0 }));
        let reminders = vec![Reminder { time, ..Reminder::default() }];
        let task = Some(Task { title: "Buy milk".to_owned(), reminders, ..Task::default() });
        let request = CreateTaskRequest { task, ..CreateTaskRequest::default() };
        let mut task: Task = self.call(CREATE_TASK, &request, access_token).await.expect("created");
        while task.reminders[0].fire_time.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let request = GetTaskRequest { id: task.id };
            task = self.call(GET_TASK, &request, access_token).await.expect("the task exists");
        }
        task
    }

    /// Asks for the codes of a device, and returns the user code.
    async fn request_device_codes(&mut self) -> String {
        let request = AuthorizeDeviceRequest { client_id: "taskey".to_owned(), scope: String::new() };
        let codes: AuthorizeDeviceResponse = self.call(AUTHORIZE_DEVICE, &request, "").await.expect("codes");
        self.secrets.add_encoded("a device code", &codes.device_code);
        codes.user_code
    }

    /// Makes the calls of a service.
    async fn introspect(&self, service: &str, ann: &Account) {
        let request = IntrospectRequest { token: ann.pair.access_token.clone(), ..Default::default() };
        let introspected: IntrospectResponse = self.call(INTROSPECT, &request, service).await.expect("introspected");
        assert!(introspected.active);
        let form = format!("token={}", ann.pair.access_token);
        let authorization = format!("authorization: Bearer {service}");
        let headers = ["content-type: application/x-www-form-urlencoded", &authorization];
        assert_eq!(self.recorder.http("POST", "/v1/auth/introspect", &headers, form.as_bytes()).await.0, 200);
        let mut client = TokenServiceClient::new(self.recorder.channel("auth"));
        let feed = client.watch_revocations(bearer(service, WatchRevocationsRequest {})).await;
        let first = feed.expect("accepted").into_inner().message().await.expect("no error").expect("a snapshot");
        self.recorder.record("WatchRevocations", first.encode_to_vec());
    }

    /// Changes the password over gRPC and over HTTP, after a change that is refused.
    async fn change_passwords(&mut self, ann: Account) -> Account {
        let [rejected, next, last] = [(); 3].map(|()| self.password(&ann.email));
        let change = |current: &str, new: &str| ChangePasswordRequest {
            current_password: current.to_owned(),
            new_password: new.to_owned(),
        };
        let token = &ann.pair.access_token;
        let refused = change(&ann.password, &format!("{rejected}\n{FORGED}"));
        let refused = self.call::<ChangePasswordResponse>(CHANGE_PASSWORD, &refused, token).await;
        assert_refused!(refused, InvalidArgument, "PASSWORD_REJECTED", "new_password");
        let changed = self.call(CHANGE_PASSWORD, &change(&ann.password, &next), token).await;
        let ChangePasswordResponse {} = changed.expect("changed");
        let body = serde_json::json!({"currentPassword": next, "newPassword": last}).to_string();
        let headers = [JSON, &format!("authorization: Bearer {token}")];
        let (status, response) = self.recorder.http("POST", "/v1/me:changePassword", &headers, body.as_bytes()).await;
        assert_eq!(status, 200, "{response}");
        Account { password: last, ..ann }
    }
}
