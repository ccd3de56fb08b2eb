//! Descriptions of the calls of a server over REST: requests with variables, in TOML.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use serde::Deserialize;

use crate::rest::Connection;

/// The values of variables.
pub(crate) type Variables = BTreeMap<String, String>;

/// The description of a server and its calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) name: String,
    /// The URL of the server, without a path.
    url: String,
    /// The headers of all requests. One that contains a variable without a value is omitted.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Requests before all others.
    #[serde(default)]
    setup: Vec<Template>,
    /// Requests for each user.
    #[serde(default)]
    user: Vec<Template>,
    /// Requests for each task of a user.
    #[serde(default)]
    task: Vec<Template>,
    /// The calls to measure.
    #[serde(rename = "call")]
    pub(crate) calls: Vec<Call>,
}

/// A call to measure.
#[derive(Deserialize)]
pub(crate) struct Call {
    pub(crate) name: String,
    #[serde(flatten)]
    request: Template,
}

/// A request with variables, as in `/v1/tasks/{id}`.
#[derive(Deserialize)]
struct Template {
    method: String,
    path: String,
    #[serde(default)]
    body: String,
    /// The variables that are set from the response, with the JSON pointers of their values.
    #[serde(default)]
    capture: BTreeMap<String, String>,
}

impl Workload {
    /// Parses a description. `url` replaces the URL in it.
    pub(crate) fn parse(text: &str, url: Option<String>) -> anyhow::Result<Self> {
        let mut workload: Self = toml::from_str(text)?;
        workload.url = url.unwrap_or(workload.url);
        workload.authority()?;
        Ok(workload)
    }

    /// Returns the host and port of the server.
    fn authority(&self) -> anyhow::Result<&str> {
        let authority = self.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        authority.filter(|rest| !rest.contains('/')).with_context(|| format!("{}: not http://HOST:PORT", self.url))
    }

    /// Creates users with tasks. Returns the variables of each task.
    pub(crate) async fn seed(&self, users: usize, tasks: usize, run: &str) -> anyhow::Result<Vec<Variables>> {
        let mut connection = Connection::new(self.authority()?);
        let mut setup = Variables::from([("run".to_owned(), run.to_owned())]);
        self.execute(&self.setup, &mut connection, &mut setup).await?;
        let mut seeded = Vec::new();
        for user in 0..users {
            let mut variables = setup.clone();
            variables.insert("user".to_owned(), user.to_string());
            self.execute(&self.user, &mut connection, &mut variables).await?;
            for number in 0..tasks {
                let mut variables = variables.clone();
                variables.insert("n".to_owned(), number.to_string());
                self.execute(&self.task, &mut connection, &mut variables).await?;
                seeded.push(variables);
            }
        }
        Ok(seeded)
    }

    async fn execute(
        &self,
        requests: &[Template],
        connection: &mut Connection,
        variables: &mut Variables,
    ) -> anyhow::Result<()> {
        for template in requests {
            let Template { method, path, capture, .. } = template;
            let (status, body) = connection.send(self.request(template, variables)?).await?;
            let text = || String::from_utf8_lossy(&body).into_owned();
            ensure!(status.is_success(), "{}: {method} {path}: {status}: {}", self.name, text());
            if capture.is_empty() {
                continue;
            }
            let response: serde_json::Value = serde_json::from_slice(&body)?;
            for (variable, pointer) in capture {
                let value = response.pointer(pointer).with_context(|| format!("no {pointer} in {}", text()))?;
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                variables.insert(variable.clone(), value);
            }
        }
        Ok(())
    }

    fn request(&self, template: &Template, variables: &Variables) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(self.authority()?)?)]);
        for (name, value) in &self.headers {
            if let Ok(value) = render(value, variables) {
                headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(&value)?);
            }
        }
        let body = Full::from(render(&template.body, variables)?);
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(template.method.as_bytes())?;
        *request.uri_mut() = render(&template.path, variables)?.parse()?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Replaces each `{variable}` by its value. Other braces, such as those of JSON, stay.
fn render(template: &str, variables: &Variables) -> anyhow::Result<String> {
    let (mut text, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        rest = match after[end..].strip_prefix('}') {
            Some(behind) if end > 0 => {
                let name = &after[..end];
                let Some(value) = variables.get(name) else { bail!("the variable {name} has no value") };
                text.push_str(value);
                behind
            }
            _ => {
                text.push('{');
                after
            }
        };
    }
    text.push_str(rest);
    Ok(text)
}

/// A client that makes the calls of a workload.
pub(crate) struct Client {
    workload: Arc<Workload>,
    connection: Connection,
    /// The variables of each task.
    tasks: Arc<Vec<Variables>>,
    /// The number of calls that all clients have made so far.
    turn: usize,
    /// The number of clients.
    stride: usize,
}

impl Client {
    /// Creates clients that share tasks.
    pub(crate) fn create_all(
        workload: &Arc<Workload>,
        tasks: Vec<Variables>,
        count: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let tasks = Arc::new(tasks);
        let client = |turn| {
            let (workload, tasks) = (Arc::clone(workload), Arc::clone(&tasks));
            let connection = Connection::new(workload.authority()?);
            Ok(Self { workload, connection, tasks, turn, stride: count })
        };
        (0..count).map(client).collect()
    }

    /// Returns the index of a call.
    pub(crate) fn find(&self, call: &str) -> Option<usize> {
        self.workload.calls.iter().position(|other| other.name == call)
    }

    /// Makes a call, and returns whether it has succeeded. Each call is for another task than the one before.
    pub(crate) async fn call(&mut self, call: usize) -> anyhow::Result<bool> {
        self.turn += self.stride;
        // A prime, so that users take turns.
        let mut variables = self.tasks[self.turn.wrapping_mul(7919) % self.tasks.len()].clone();
        variables.insert("n".to_owned(), self.turn.to_string());
        let request = self.workload.request(&self.workload.calls[call].request, &variables)?;
        let (status, _) = self.connection.send(request).await?;
        Ok(status.is_success())
    }
}
