//! The actions of the driver itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, header::AUTHORIZATION};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use service_kit::clock::Clock;
use taskey_proto::task::v1::{GetTaskRequest, task_service_client::TaskServiceClient};
use tokio::time::sleep;
use tonic::Status;
use tonic_types::StatusExt;

use super::{
    fake::{Answer, Fake, code_name},
    runner::{Ended, Runner},
    verifiers,
};
use crate::process::{bearer, channel};

/// The parameters of an action.
pub struct Parameters<'a>(pub &'a Map<String, Value>);

impl Parameters<'_> {
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| format!("the parameter {name:?} is missing"))
    }

    pub fn number(&self, name: &str) -> Result<u64, String> {
        self.0.get(name).and_then(Value::as_u64).ok_or_else(|| format!("the parameter {name:?} is missing"))
    }

    pub fn value(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    pub fn parse<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        T::deserialize(self.value(name)).map_err(|error| format!("the parameter {name:?}: {error}"))
    }
}

impl Runner {
    /// Executes an action of the driver.
    pub async fn drive(self: &Arc<Self>, action: &Map<String, Value>) -> Result<Value, Ended> {
        let parameters = Parameters(action);
        let value = match parameters.text("driver")? {
            "sleep" => {
                sleep(Duration::from_millis(parameters.number("ms")?)).await;
                json!({})
            }
            "finish" => return Ok(self.finish(parameters.text("of")?).await?),
            "check" => parameters.value("value").clone(),
            "time" => time(parameters.parse::<Option<i64>>("plus")?.unwrap_or(0)),
            "text" => json!(parameters.text("text")?.repeat(parameters.parse("count")?)),
            "list" => json!(vec![parameters.value("item").clone(); parameters.parse("count")?]),
            "distinct" => json!(distinct(&parameters.parse::<Vec<_>>("items")?, parameters.text("member")?)),
            "claims" => decode(parameters.text("token")?)?,
            "log_in" => verifiers::log_in_at(parameters.text("address")?).await?,
            "log_out" => verifiers::log_out_at(parameters.text("address")?, parameters.text("refresh_token")?).await?,
            "personal_access_token" => verifiers::create_personal_access_token(&parameters).await?,
            "unknown_token" => json!(verifiers::unknown_token()),
            "unknown_tokens" => verifiers::call_with_unknown_tokens(&parameters).await?,
            "delete_personal_access_token" => verifiers::delete_personal_access_token(&parameters).await?,
            "delete_service_account" => verifiers::delete_service_account(&parameters).await?,
            "exchange_token" => verifiers::exchange_token(self, &parameters).await?,
            "sign" => json!(self.world.read().await.sign(parameters.value("claims"))),
            "grpc" => return Ok(get_task(parameters.text("address")?, parameters.value("token")).await),
            "http" => {
                // A language without HTTP servers of its own has no address.
                let Some(address) = parameters.value("address").as_str() else { return Err(Ended::NotAvailable) };
                get(address, parameters.value("token")).await?
            }
            "metric" => json!(self.metric(&parameters).await?),
            "logouts" => verifiers::measure_logouts(self, &parameters).await?,
            "vectors" => return verifiers::check_vectors(self).await,
            name @ ("script" | "calls" | "send" | "end") => self.fake(name, &parameters).await?,
            name => self.change_servers(name, &parameters).await?,
        };
        Ok(json!({"ok": value}))
    }

    /// Executes an action that changes the servers or the proxies.
    async fn change_servers(&self, name: &str, parameters: &Parameters<'_>) -> Result<Value, String> {
        let mut world = self.world.write().await;
        match name {
            "proxy" => world.set_mode(parameters.text("mode")?).await?,
            "abandon_connections" => world.abandon_connections(),
            "stop" => world.stop_taskey(parameters.text("signal")?).await,
            "start" => world.start_taskey().await,
            "restart" => {
                world.stop_taskey(parameters.text("signal")?).await;
                world.start_taskey().await;
            }
            "lose_history" => world.lose_history().await,
            "auth_service" => {
                let arguments: Vec<String> = parameters.parse("arguments")?;
                return Ok(json!(world.auth_service(&arguments).await?));
            }
            other => return Err(format!("unknown action {other:?}")),
        }
        // A new process has other addresses.
        self.variables.lock().expect("not poisoned").0.extend(world.variables());
        Ok(json!({}))
    }

    /// Executes an action on the scripted server.
    async fn fake(&self, name: &str, parameters: &Parameters<'_>) -> Result<Value, String> {
        let world = self.world.read().await;
        let fake: &Fake = world.fake.as_ref().ok_or("the scenario has no scripted server")?;
        let method = parameters.text("method")?;
        match name {
            "script" => fake.script(method, parameters.parse::<Vec<Answer>>("answers")?),
            "calls" => return Ok(json!(fake.calls(method))),
            "send" => fake.send(method, parameters.value("message")).await,
            _ => fake.end(method, parameters.value("error")).await,
        }
        Ok(json!({}))
    }

    async fn metric(&self, parameters: &Parameters<'_>) -> Result<f64, String> {
        let address = self.world.read().await.ops_address().ok_or("the server does not run")?;
        let labels: BTreeMap<String, String> = parameters.parse("labels")?;
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        metric(address, parameters.text("metric")?, &labels).await
    }
}

/// Returns the sum of the time series of a metric that have these labels.
pub async fn metric(ops: SocketAddr, name: &str, labels: &[String]) -> Result<f64, String> {
    let response = get(&format!("{ops}/metrics"), &Value::Null).await?;
    let lines = response["text"].as_str().unwrap_or_default().lines();
    let is_metric = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let series = lines.filter(|line| is_metric(line) && labels.iter().all(|label| line.contains(label)));
    Ok(series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// Returns the time in so many seconds, as a number and in the JSON format of protobuf.
fn time(seconds: i64) -> Value {
    let seconds = Clock::system().now().as_seconds() + seconds;
    let time = prost_types::Timestamp { seconds, nanos: 0 };
    json!({"seconds": seconds, "text": time.to_string()})
}

/// Returns the number of different values of a member.
fn distinct(items: &[Value], member: &str) -> usize {
    items.iter().map(|item| item[member].to_string()).collect::<BTreeSet<_>>().len()
}

/// Returns the header and the claims of a token, without verifying it.
fn decode(token: &str) -> Result<Value, String> {
    let part = |index| {
        let part = token.split('.').nth(index).ok_or("the token is incomplete")?;
        let part = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string())?;
        serde_json::from_slice::<Value>(&part).map_err(|error| error.to_string())
    };
    Ok(json!({"header": part(0)?, "claims": part(1)?}))
}

/// Calls the server of a verifier. The answer is that of an adapter.
pub async fn get_task(address: &str, token: &Value) -> Value {
    let mut tasks = TaskServiceClient::new(channel(address.parse().expect("an address")));
    let message = GetTaskRequest { id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned() };
    let request = match token.as_str() {
        Some(token) => bearer(token, message),
        None => tonic::Request::new(message),
    };
    match tasks.get_task(request).await {
        Ok(task) => json!({"ok": {"response": {"id": task.into_inner().id}}}),
        Err(status) => json!({"error": error(&status)}),
    }
}

/// Returns an error in the form of an adapter, with its domain.
pub fn error(status: &Status) -> Value {
    let details = status.get_error_details();
    let info = details.error_info();
    json!({
        "code": code_name(status.code()),
        "message": status.message(),
        "reason": info.map(|info| info.reason.clone()),
        "domain": info.map(|info| info.domain.clone()),
        "metadata": info.map(|info| info.metadata.clone()),
    })
}

/// Sends a GET request over HTTP/1.1.
async fn get(address: &str, token: &Value) -> Result<Value, String> {
    let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let mut request = Request::get(address);
    if let Some(token) = token.as_str() {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.map_err(|error| error.to_string())?.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    Ok(json!({"status": head.status.as_u16(), "body": serde_json::from_str::<Value>(&text).ok(), "text": text}))
}
