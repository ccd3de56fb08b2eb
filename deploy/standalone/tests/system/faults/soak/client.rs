//! The calls of an honest user, by three routes: to the services, through the gateway by gRPC, and by HTTP/JSON.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use service_kit::testing::refusal;
use taskey_proto::task::v1::{
    CreateTaskRequest, GetTaskRequest, ListTasksRequest, Task, UpdateTaskRequest,
    task_service_client::TaskServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use super::journal::Problem;
use crate::{
    faults::users::{CALL_TIMEOUT, NO_RESPONSE},
    process::bearer,
};

/// The addresses of all programs.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub auth: Vec<SocketAddr>,
    pub task: Vec<SocketAddr>,
    pub gateway: SocketAddr,
}

/// How a call reaches its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Service,
    Gateway,
    Rest,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::Service, Self::Gateway, Self::Rest];

    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "gRPC",
            Self::Gateway => "gRPC through the gateway",
            Self::Rest => "HTTP/JSON",
        }
    }
}

/// The connections of one client.
pub struct Client {
    auth: Vec<Channel>,
    task: Vec<Channel>,
    gateway: Channel,
    gateway_address: SocketAddr,
    source: Ipv4Addr,
}

/// Returns a channel that connects from this address.
pub fn channel_from(source: Ipv4Addr, address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.local_address(Some(source.into())).connect_lazy()
}

impl Client {
    pub fn new(addresses: &Addresses, source: Ipv4Addr) -> Self {
        let channel = |address: &SocketAddr| channel_from(source, *address);
        Self {
            auth: addresses.auth.iter().map(channel).collect(),
            task: addresses.task.iter().map(channel).collect(),
            gateway: channel(&addresses.gateway),
            gateway_address: addresses.gateway,
            source,
        }
    }

    /// Returns a channel to auth-service. Each attempt uses another one.
    pub fn auth(&self, attempt: usize) -> &Channel {
        match attempt % 3 {
            2 => &self.gateway,
            number => &self.auth[number % self.auth.len()],
        }
    }

    pub fn tasks(&self) -> &[Channel] {
        &self.task
    }

    /// Returns a channel to task-service, or to the gateway.
    pub fn task(&self, route: Route, attempt: usize) -> &Channel {
        if route == Route::Gateway { &self.gateway } else { &self.task[attempt % self.task.len()] }
    }

    fn service(&self, route: Route, attempt: usize) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.task(route, attempt).clone())
    }

    /// Creates a task. Returns its id.
    pub async fn create(
        &self,
        route: Route,
        attempt: usize,
        token: &str,
        title: &str,
        request_id: &str,
    ) -> Result<String, Problem> {
        if route == Route::Rest {
            let path = format!("/v1/tasks?requestId={request_id}");
            let task = self.rest("POST", &path, token, Some(json!({"title": title}))).await?;
            return Ok(text(&task["id"]));
        }
        let task = Some(Task { title: title.to_owned(), ..Task::default() });
        let request = CreateTaskRequest { task, request_id: request_id.to_owned(), ..CreateTaskRequest::default() };
        let task = in_time(self.service(route, attempt).create_task(bearer(token, request))).await?;
        Ok(task.id)
    }

    /// Returns the title of a task.
    pub async fn get(&self, route: Route, attempt: usize, token: &str, id: &str) -> Result<String, Problem> {
        if route == Route::Rest {
            let task = self.rest("GET", &format!("/v1/tasks/{id}"), token, None).await?;
            return Ok(text(&task["title"]));
        }
        let request = GetTaskRequest { id: id.to_owned() };
        Ok(in_time(self.service(route, attempt).get_task(bearer(token, request))).await?.title)
    }

    /// Changes the title of a task.
    pub async fn update(
        &self,
        route: Route,
        attempt: usize,
        token: &str,
        id: &str,
        title: &str,
    ) -> Result<(), Problem> {
        if route == Route::Rest {
            let path = format!("/v1/tasks/{id}");
            return self.rest("PATCH", &path, token, Some(json!({"title": title}))).await.map(|_| ());
        }
        let task = Some(Task { id: id.to_owned(), title: title.to_owned(), ..Task::default() });
        let request = UpdateTaskRequest { task, ..UpdateTaskRequest::default() };
        in_time(self.service(route, attempt).update_task(bearer(token, request))).await.map(|_| ())
    }

    /// Returns the ids and titles of the newest tasks.
    pub async fn list(&self, route: Route, attempt: usize, token: &str) -> Result<Vec<(String, String)>, Problem> {
        if route == Route::Rest {
            let page = self.rest("GET", "/v1/tasks?pageSize=20", token, None).await?;
            let tasks = page["tasks"].as_array().cloned().unwrap_or_default();
            return Ok(tasks.iter().map(|task| (text(&task["id"]), text(&task["title"]))).collect());
        }
        let request = ListTasksRequest { page_size: 20, ..ListTasksRequest::default() };
        let page = in_time(self.service(route, attempt).list_tasks(bearer(token, request))).await?;
        Ok(page.tasks.into_iter().map(|task| (task.id, task.title)).collect())
    }

    /// Makes a request over HTTP/1.1 on a connection of its own.
    async fn rest(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Result<Value, Problem> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let content = if body.is_empty() {
            String::new()
        } else {
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
        };
        let host = self.gateway_address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             {content}\r\n{body}"
        );
        let exchange = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((self.source, 0).into())?;
            let mut connection = socket.connect(self.gateway_address).await?;
            connection.write_all(request.as_bytes()).await?;
            let mut response = String::new();
            connection.read_to_string(&mut response).await.map(|_| response)
        };
        let response = match timeout(CALL_TIMEOUT, exchange).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(transient("connection", &error.to_string())),
            Err(_) => return Err(transient("no response", "")),
        };
        parse_response(&response)
    }
}

fn parse_response(response: &str) -> Result<Value, Problem> {
    let code = response.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    let body = response.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    match (code, body) {
        (Some(200), Some(body)) => Ok(body),
        (Some(code), Some(body)) => {
            let details = body["error"]["details"].as_array().cloned().unwrap_or_default();
            let reason = details.iter().find_map(|detail| detail["reason"].as_str()).unwrap_or_default();
            let is_transient = matches!(code, 408 | 429 | 499..);
            let message = text(&body["error"]["message"]);
            Err(Problem { reason: format!("{code} {reason}"), message, is_transient })
        }
        _ => Err(transient("incomplete response", response.lines().next().unwrap_or_default())),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn transient(reason: &str, message: &str) -> Problem {
    Problem { reason: reason.to_owned(), message: message.to_owned(), is_transient: true }
}

/// Converts the outcome of a call.
pub fn to_problem(status: &Status) -> Problem {
    let (code, reason, _) = refusal(status);
    let is_transient = match code {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Internal | Code::Aborted => true,
        code => reason.is_empty() && code != Code::Ok,
    };
    Problem { reason: format!("{code:?} {reason}"), message: status.message().to_owned(), is_transient }
}

async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Problem> {
    let outcome = timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(NO_RESPONSE.clone()));
    outcome.map(Response::into_inner).map_err(|status| to_problem(&status))
}

/// Pause before a retry.
pub const RETRY_DELAY: Duration = Duration::from_millis(100);
