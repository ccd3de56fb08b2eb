//! All that people do, well and badly, while secrets are about.

use std::{collections::BTreeMap, env, time::Duration};

use prost_reflect::prost::Message;
use service_kit::{assert_refused, random};
use taskey_proto::{
    auth::v1::{
        ChangePasswordRequest, ChangePasswordResponse, IntrospectRequest, IntrospectResponse, LoginRequest,
        RefreshRequest, SignUpRequest, TokenPair, User, WatchRevocationsRequest,
        token_service_client::TokenServiceClient,
    },
    task::v1::{CreateTaskListRequest, CreateTaskRequest, Task, TaskList},
};
use tokio::time::timeout;
use tonic::Status;

use super::{calls::Rpc, mistakes::Deck, secrets::Secrets, witness::Witness};
use crate::process::bearer;

pub const SIGN_UP: &str = "/taskey.auth.v1.AuthService/SignUp";
pub const LOGIN: &str = "/taskey.auth.v1.AuthService/Login";
pub const REFRESH: &str = "/taskey.auth.v1.AuthService/Refresh";
pub const LIST_TASKS: &str = "/taskey.task.v1.TaskService/ListTasks";
pub const CHANGE_PASSWORD: &str = "/taskey.auth.v1.AccountService/ChangePassword";
const INTROSPECT: &str = "/taskey.auth.v1.TokenService/Introspect";
const CREATE_LIST: &str = "/taskey.task.v1.TaskListService/CreateTaskList";
const CREATE_TASK: &str = "/taskey.task.v1.TaskService/CreateTask";
pub const JSON: &str = "content-type: application/json";

/// The address of somebody who is there from the beginning.
pub const ANN: &str = "ann.the.administrator@example.com";

/// A text that would be a line of its own where line breaks get through.
pub const FORGED: &str = "FORGED: a line of somebody else's";

/// What is in no log.
pub const PLANTED: &str = "planted after the end of the log";

pub struct Scenario {
    pub witness: Witness,
    pub secrets: Secrets,
}

/// Somebody with a session.
pub struct Person {
    pub email: String,
    pub password: String,
    pub pair: TokenPair,
}

impl Scenario {
    /// Plays it all, and gives the secrets that have been about.
    pub async fn play(witness: Witness) -> (Witness, Secrets) {
        let mut scenario = Self { witness, secrets: Secrets::default() };
        scenario.learn_files();
        let keys = scenario.witness.path("keys.json");
        let rotation = ["keys", "rotate", "--key-file", &keys, "--publish-for", "5s"];
        let mut rotation = scenario.witness.command(&rotation).spawn().expect("the program runs");
        let service = scenario.witness.output(&["tokens", "issue-service", "probe"]).trim().to_owned();
        let random = service.strip_prefix("taskey_service_").expect("a service token");
        scenario.secrets.add_encoded("a service token", random);

        let mut ann = scenario.person(ANN).await;
        scenario.witness.output(&["users", "set-role", ANN, "admin"]);
        scenario.call_well(&ann).await;
        ann.pair = scenario.log_in(ANN, &ann.password).await.expect("logged in");
        scenario.introspect(&service, &ann).await;
        let ann = scenario.change_passwords(ann).await;
        let eve = scenario.person("eve@example.com").await;
        let sue = scenario.person("sue@example.com").await;
        let secrets = [&eve.password, &eve.pair.refresh_token, &eve.pair.access_token, &service];
        // With all rounds each secret gets to each place.
        let rounds = if env::var_os("TASKEY_TEST_ROUNDS").is_some() { secrets.len() } else { 1 };
        for round in 0..rounds {
            let secrets = Deck { secrets: secrets.map(Clone::clone).to_vec(), dealt: round.into() };
            scenario.call_badly(&ann, &sue, &secrets).await;
            scenario.misplace(&secrets).await;
        }
        scenario.send_what_cannot_be_read(&eve.password).await;
        scenario.inject_lines(&eve).await;
        scenario.guess().await;
        scenario.lose_the_database(&ann).await;
        assert!(rotation.wait().expect("it ends").success(), "the keys were not rotated");
        // Connections to a database that was lost are found out one by one.
        let mut refusals = BTreeMap::<String, usize>::new();
        let is_back = async {
            while let Err(status) = scenario.log_in(&ann.email, &ann.password).await {
                *refusals.entry(status.message().to_owned()).or_default() += 1;
            }
        };
        let came_back = timeout(Duration::from_secs(60), is_back).await;
        assert!(came_back.is_ok(), "everything should be as it was: {refusals:?}");
        scenario.learn_files();
        (scenario.witness, scenario.secrets)
    }

    /// The keys, and the other secrets that are in files.
    fn learn_files(&mut self) {
        let read = |name: &str| std::fs::read_to_string(self.witness.path(name)).unwrap_or_default();
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

    /// A password whose core is a secret; around it is what is escaped in one way or another.
    pub fn password(&mut self, of: &str) -> String {
        let core = format!("{:032x}", u128::from_be_bytes(random::bytes()));
        self.secrets.add(&format!("a password of {of}"), core.as_bytes());
        format!("a \"{core}\" & b/?%")
    }

    fn learn(&mut self, pair: &TokenPair) {
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
        let answer = self.witness.grpc(path, message.encode_to_vec(), headers).await;
        answer.map(|answer| R::decode(&answer[..]).expect("it is one"))
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> Result<TokenPair, Status> {
        let (email, password) = (email.to_owned(), password.to_owned());
        let pair: TokenPair = self.call(LOGIN, &LoginRequest { email, password, ..Default::default() }, "").await?;
        self.learn(&pair);
        Ok(pair)
    }

    /// Signs up and logs in, first over HTTP and then over gRPC, and refreshes.
    pub async fn person(&mut self, email: &str) -> Person {
        let (email, password) = (email.to_owned(), self.password(email));
        let body = serde_json::json!({"email": email, "password": password}).to_string().into_bytes();
        let (status, answer) = self.witness.http("POST", "/v1/auth/signup", &[JSON], &body).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = self.witness.http("POST", "/v1/auth/login", &[JSON], &body).await;
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let member = |name: &str| answer[name].as_str().expect("told").to_owned();
        let (access_token, refresh_token) = (member("accessToken"), member("refreshToken"));
        self.learn(&TokenPair { access_token, refresh_token, ..TokenPair::default() });
        let new = SignUpRequest { email: email.clone(), password: password.clone(), ..Default::default() };
        assert_refused!(self.call::<User>(SIGN_UP, &new, "").await, AlreadyExists, "EMAIL_TAKEN", "email");
        let pair = self.log_in(&email, &password).await.expect("logged in");
        let refresh = RefreshRequest { refresh_token: pair.refresh_token };
        let pair = self.call(REFRESH, &refresh, "").await.expect("refreshed");
        self.learn(&pair);
        Person { email, password, pair }
    }

    /// Calls every RPC as it wants to be called, over gRPC and over HTTP. Logins, refreshes and what takes a
    /// password are elsewhere.
    async fn call_well(&mut self, ann: &Person) {
        let bob = self.person("bob@example.com").await;
        let bob_id = bob.pair.user.as_ref().expect("told").id.clone();
        for rpc in Rpc::all().iter().filter(|rpc| ![LOGIN, REFRESH].contains(&&rpc.path[..]) && !rpc.takes_password()) {
            for over_http in [false, true] {
                // Some of them end sessions.
                let here = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let there = self.log_in(&ann.email, &ann.password).await.expect("logged in");
                let task = Some(Task { title: "Buy milk".to_owned(), ..Task::default() });
                let task: Task = self
                    .call(CREATE_TASK, &CreateTaskRequest { task, ..CreateTaskRequest::default() }, &here.access_token)
                    .await
                    .expect("created");
                let task_list = Some(TaskList { title: "Shopping".to_owned(), ..TaskList::default() });
                let request = CreateTaskListRequest { task_list, ..CreateTaskListRequest::default() };
                let list: TaskList = self.call(CREATE_LIST, &request, &here.access_token).await.expect("created");
                let new = format!("new.{over_http}@example.com");
                let texts = |field: &str| {
                    let text = match field {
                        "id" if rpc.path.contains("TaskService") => &task.id,
                        "id" if rpc.path.contains("TaskListService") => &list.id,
                        "title" => "Buy more milk",
                        "display_name" => "Ann",
                        "user_id" => &bob_id,
                        "session_id" => &there.session_id,
                        "roles" if rpc.path.ends_with("SetUserRoles") => "verifier",
                        "filter" if rpc.path.contains("TaskService") => "milk",
                        "filter" => "role:admin",
                        "email" if rpc.path == SIGN_UP => &new,
                        "password" => &bob.password,
                        "refresh_token" => &there.refresh_token,
                        "token" => &here.access_token,
                        _ => return None,
                    };
                    Some(text.to_owned())
                };
                let authorization = format!("Bearer {}", here.access_token);
                let good = if over_http {
                    let request = rpc.http(&texts);
                    let headers = [JSON, &format!("authorization: {authorization}")];
                    let headers = if request.body.is_empty() { &headers[1..] } else { &headers };
                    self.witness.http(&request.verb, &request.path, headers, &request.body).await.0 == 200
                } else {
                    let headers = [("authorization", &authorization[..])];
                    self.witness.grpc(&rpc.path, rpc.message(&texts), &headers).await.is_ok()
                };
                // Those of services want to be called by a service.
                let expected = !rpc.path.contains("TokenService") || rpc.path.ends_with("GetJwks");
                assert_eq!(good, expected, "{}, over HTTP: {over_http}", rpc.path);
            }
        }
    }

    /// What services do.
    async fn introspect(&self, service: &str, ann: &Person) {
        let request = IntrospectRequest { token: ann.pair.access_token.clone(), ..Default::default() };
        let told: IntrospectResponse = self.call(INTROSPECT, &request, service).await.expect("told");
        assert!(told.active);
        let form = format!("token={}", ann.pair.access_token);
        let authorization = format!("authorization: Bearer {service}");
        let headers = ["content-type: application/x-www-form-urlencoded", &authorization];
        assert_eq!(self.witness.http("POST", "/v1/auth/introspect", &headers, form.as_bytes()).await.0, 200);
        let mut client = TokenServiceClient::new(self.witness.channel("auth"));
        let feed = client.watch_revocations(bearer(service, WatchRevocationsRequest {})).await;
        let first = feed.expect("let in").into_inner().message().await.expect("no error").expect("a snapshot");
        self.witness.note("WatchRevocations", first.encode_to_vec());
    }

    /// Changes the password over gRPC and over HTTP, and fails to.
    async fn change_passwords(&mut self, ann: Person) -> Person {
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
        let (status, answer) = self.witness.http("POST", "/v1/me:changePassword", &headers, body.as_bytes()).await;
        assert_eq!(status, 200, "{answer}");
        Person { password: last, ..ann }
    }
}
