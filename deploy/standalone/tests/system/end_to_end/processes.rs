//! Programs that a test starts, calls and kills.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use service_kit::testing::TestDatabase;
use taskey_proto::{
    auth::v1::{LoginRequest, LogoutRequest, SignUpRequest, TokenPair, auth_service_client::AuthServiceClient},
    task::v1::{CreateTaskRequest, ListTasksRequest, Task, task_service_client::TaskServiceClient},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::process::{self, channel, wait_for_health};
pub use crate::process::{PASSWORD, Process, bearer, program};

impl Process {
    /// Starts a program and waits until it has printed an address for each of these listeners. All calls of a test come
    /// from one address, so rate limits are off unless the arguments enable them.
    pub fn start(program: &Path, arguments: &[String], listeners: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).args(["--log", "warn"]).env("TASKEY_RATE_LIMITS", "off");
        Self::spawn(&mut command, listeners)
    }

    pub fn channel(&self, name: &str) -> Channel {
        channel(self.address(name))
    }

    /// Waits until the program exits and returns its exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("the program exits").code()
    }
}

/// All services, in one process or in three.
pub struct Taskey {
    processes: Vec<Process>,
    /// Program, flags and listeners of each process. A restart keeps the addresses of the first start.
    arguments: Vec<(PathBuf, Vec<String>, Vec<&'static str>)>,
}

impl Taskey {
    /// Starts `taskey` with a data directory in the folder of the database.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts `taskey` with additional flags.
    pub async fn start_with(database: &TestDatabase, flags: &[&str]) -> Self {
        Self::run(vec![(program("taskey"), standalone_arguments(database, flags), LISTENERS.to_vec())]).await
    }

    /// Starts `taskey` with environment variables.
    pub async fn start_in(database: &TestDatabase, environment: &[(String, String)]) -> Self {
        let mut arguments: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        arguments.push(program("taskey").display().to_string());
        arguments.extend(standalone_arguments(database, &[]));
        Self::run(vec![("env".into(), arguments, LISTENERS.to_vec())]).await
    }

    /// Grants a role to a user of [`start`](Self::start) on SQLite.
    pub fn grant_role(database: &TestDatabase, email: &str, role: &str) {
        let url = format!("sqlite:{}", database.folder().join("data/auth.db").display());
        let mut command = Command::new(program("auth-service"));
        let status = command.args(["users", "set-role", email, role, "--database-url", &url]).status();
        assert!(status.expect("the program starts").success());
    }

    /// Starts the three separate programs.
    pub async fn start_separately(database: &TestDatabase) -> Self {
        let keys = ["--key-file".to_owned(), database.key_file().display().to_string()];
        let url = |service: &str| {
            let url = if database.url().starts_with("postgres") {
                database.url().to_owned()
            } else {
                format!("sqlite:{}", database.folder().join(service).with_extension("db").display())
            };
            ["--database-url".to_owned(), url]
        };
        let listen = ["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        let auth = (program("auth-service"), [&listen[..], &keys, &url("auth")].concat(), vec!["auth"]);
        let auth_process = Process::start(&auth.0, &auth.1, &auth.2);
        let auth_url = ["--auth-url".to_owned(), format!("http://{}", auth_process.address("auth"))];
        let task = [&listen[..], &keys, &url("task"), &auth_url].concat();
        let task = (program("task-service"), task, vec!["task"]);
        let task_process = Process::start(&task.0, &task.1, &task.2);
        let task_url = ["--task-url".to_owned(), format!("http://{}", task_process.address("task"))];
        let gateway = (program("gateway"), [&listen[..], &auth_url, &task_url].concat(), vec!["gateway"]);
        let gateway_process = Process::start(&gateway.0, &gateway.1, &gateway.2);
        let taskey =
            Self { processes: vec![auth_process, task_process, gateway_process], arguments: vec![auth, task, gateway] };
        taskey.wait_until_ready().await
    }

    /// Starts two replicas of each service on one PostgreSQL database: two auth-services, then two task-services that
    /// each know both auth-services.
    pub async fn start_replicas(database: &TestDatabase) -> [Process; 4] {
        let keys = database.key_file().display().to_string();
        let common = ["--listen", "127.0.0.1:0", "--database-url", database.url(), "--key-file", &keys];
        let common = common.map(str::to_owned).to_vec();
        let auth = [(); 2].map(|()| Process::start(&program("auth-service"), &common, &["auth"]));
        let urls = auth.each_ref().map(|process| format!("http://{}", process.address("auth")));
        let task = |first: usize| {
            let auth_url = ["--auth-url".to_owned(), [&urls[first][..], &urls[1 - first]].join(",")];
            Process::start(&program("task-service"), &[&common[..], &auth_url].concat(), &["task"])
        };
        let tasks = [task(0), task(1)];
        for process in &tasks {
            wait_until_serving(process.channel("task")).await;
        }
        let ([auth_0, auth_1], [task_0, task_1]) = (auth, tasks);
        [auth_0, auth_1, task_0, task_1]
    }

    async fn run(arguments: Vec<(PathBuf, Vec<String>, Vec<&'static str>)>) -> Self {
        let processes = arguments.iter().map(|(program, flags, names)| Process::start(program, flags, names)).collect();
        Self { processes, arguments }.wait_until_ready().await
    }

    /// Sends SIGTERM to all processes, and waits until they have exited.
    pub async fn stop(mut self) {
        for process in &mut self.processes {
            process.signal("TERM");
            process.wait_for_exit().await;
        }
    }

    /// Kills all processes and starts them again on the same addresses.
    pub async fn kill_and_start_again(mut self) -> Self {
        for (process, (_, flags, names)) in self.processes.drain(..).zip(&mut self.arguments) {
            keep_addresses(&process, flags, names);
            process.kill();
        }
        Self::run(self.arguments).await
    }

    /// Kills the program with this listener, runs `meanwhile`, and starts the program again on the same address.
    pub async fn without(&mut self, name: &str, meanwhile: impl AsyncFnOnce(&Self)) {
        let has_listener = |process: &Process| process.addresses.contains_key(name);
        let at = self.processes.iter().position(has_listener).expect("a process has this listener");
        let process = self.processes.remove(at);
        let (program, mut flags, names) = self.arguments[at].clone();
        keep_addresses(&process, &mut flags, &names);
        process.kill();
        meanwhile(self).await;
        self.processes.insert(at, Process::start(&program, &flags, &names));
    }

    /// Waits until every service reports that it serves.
    async fn wait_until_ready(self) -> Self {
        for name in ["auth", "task"] {
            wait_until_serving(self.channel(name)).await;
        }
        self
    }

    pub fn process(&self, name: &str) -> &Process {
        self.processes.iter().find(|process| process.addresses.contains_key(name)).expect("a process has this listener")
    }

    pub fn channel(&self, name: &str) -> Channel {
        self.process(name).channel(name)
    }

    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel("auth"))
    }

    pub fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel("task"))
    }

    /// Signs up and logs in.
    pub async fn sign_up_and_log_in(&self, email: &str) -> TokenPair {
        let (email, password) = (email.to_owned(), PASSWORD.to_owned());
        let sign_up = SignUpRequest { email: email.clone(), password, ..SignUpRequest::default() };
        self.auth().sign_up(sign_up).await.expect("signed up");
        self.log_in(&email).await
    }

    pub async fn log_in(&self, email: &str) -> TokenPair {
        let login = LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned(), ..LoginRequest::default() };
        self.auth().login(login).await.expect("logged in").into_inner()
    }

    pub async fn logout(&self, pair: &TokenPair) {
        let request = LogoutRequest { refresh_token: pair.refresh_token.clone(), ..LogoutRequest::default() };
        self.auth().logout(request).await.expect("logged out");
    }

    pub async fn create(&self, access_token: &str, title: &str) -> Result<Task, Status> {
        let task = Some(Task { title: title.to_owned(), ..Task::default() });
        let request = bearer(access_token, CreateTaskRequest { task, ..CreateTaskRequest::default() });
        self.tasks().create_task(request).await.map(tonic::Response::into_inner)
    }

    pub async fn list(&self, access_token: &str) -> Result<Vec<Task>, Status> {
        let mut tasks = Vec::new();
        let mut page = ListTasksRequest { page_size: 500, ..ListTasksRequest::default() };
        loop {
            let response = self.tasks().list_tasks(bearer(access_token, page.clone())).await?.into_inner();
            tasks.extend(response.tasks);
            if response.next_page_token.is_empty() {
                return Ok(tasks);
            }
            page.page_token = response.next_page_token;
        }
    }
}

/// The listeners of `taskey`.
const LISTENERS: [&str; 3] = ["auth", "task", "gateway"];

/// Returns the arguments of `taskey`, with a data directory in the folder of the database, and additional flags.
fn standalone_arguments(database: &TestDatabase, flags: &[&str]) -> Vec<String> {
    let data = database.folder().join("data").display().to_string();
    let listen = LISTENERS.map(|name| [format!("--{name}-listen"), "127.0.0.1:0".to_owned()]);
    let mut arguments = [&listen.concat()[..], &["--data-dir".to_owned(), data]].concat();
    arguments.extend(flags.iter().map(ToString::to_string));
    if database.url().starts_with("postgres") {
        arguments.extend(["--database-url".to_owned(), database.url().to_owned()]);
    }
    arguments
}

/// Replaces the listen flags with the addresses of a running program, for the next start.
fn keep_addresses(process: &Process, flags: &mut [String], names: &[&str]) {
    for name in names {
        let flag = if names.len() == 1 { "--listen".to_owned() } else { format!("--{name}-listen") };
        let at = flags.iter().position(|other| *other == flag).expect("each listener has a flag");
        flags[at + 1] = process.address(name).to_string();
    }
}

/// Waits until a service reports that it serves.
pub async fn wait_until_serving(channel: Channel) {
    wait_for_health(channel, ServingStatus::Serving).await;
}

/// Calls the gateway with `curl` and returns the HTTP status and the body.
pub async fn curl(taskey: &Taskey, path: &str, arguments: &[&str]) -> (u16, String) {
    let url = format!("http://{}{path}", taskey.process("gateway").address("gateway"));
    process::curl(&url, arguments).await
}
