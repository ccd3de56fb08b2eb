//! The latency and the CPU time that the gateway adds to a call.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prost::Message;
use taskey_proto::task::v1::{CreateTaskRequest, GetTaskRequest, Task};
use tokio::{net::TcpStream, time::Instant};

use crate::{
    client::{Call, Connection, encode_frame},
    load::histogram,
    machine::{Cores, MeasuredProcesses},
    target::{Database, Environment, Process, retry},
};

/// Measures sequential calls, alternately with and without the gateway
#[derive(clap::Args)]
pub(crate) struct Gateway {
    /// Number of calls of each kind
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    calls: usize,

    /// Directory for the temporary database
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

const GET: &str = "/taskey.task.v1.TaskService/GetTask";
const CREATE: &str = "/taskey.task.v1.TaskService/CreateTask";

/// The kinds of calls, in the order in which they are made.
const KINDS: [&str; 6] = [
    "get, gRPC, directly",
    "get, gRPC through the gateway",
    "get, JSON over HTTP/1.1",
    "create, gRPC, directly",
    "create, JSON over HTTP/1.1",
    "/healthz, no backend call",
];

/// A user and the connections for the calls.
struct Caller {
    direct: Connection,
    via_gateway: Connection,
    http: SendRequest<Full<Bytes>>,
    authorization: HeaderValue,
}

impl Gateway {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let environment = Environment::new(&self.folder, Cores::find()?)?;
        let auth = environment.auth_service(&Database::sqlite(&environment).auth_tables())?;
        let service = environment.task_service(&auth)?;
        let gateway = environment.gateway(&auth, &service)?;
        let mut caller = Caller::new(&environment, &service, &gateway).await?;
        let task = retry(async || caller.grpc(&caller.direct, CREATE, &create_request()).await).await?.id;
        let mut latencies: Vec<Histogram<u64>> = KINDS.iter().map(|_| histogram()).collect();
        for call in 0..self.calls + self.calls / 10 {
            for (kind, latencies) in latencies.iter_mut().enumerate() {
                let start = Instant::now();
                caller.call(kind, &task).await.with_context(|| KINDS[kind])?;
                // The first calls only fill caches and run code for the first time.
                if call >= self.calls / 10 {
                    latencies.record(u64::try_from(start.elapsed().as_nanos() / 100)?)?;
                }
            }
        }
        writeln!(io::stdout(), "in µs, {} sequential calls each; CPU: CPU time of the gateway per call", self.calls)?;
        writeln!(io::stdout(), "{:<32} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "CPU")?;
        for (kind, latencies) in latencies.iter().enumerate() {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|quantile| micros(latencies.value_at_quantile(quantile)));
            let cpu = self.gateway_cpu_time(&mut caller, &gateway, kind, &task).await?;
            writeln!(io::stdout(), "{:<32} {p50:>8.1} {p90:>8.1} {p99:>8.1} {cpu:>8.1}", KINDS[kind])?;
        }
        Ok(())
    }

    /// Returns the CPU time of the gateway per call, in µs.
    async fn gateway_cpu_time(
        &self,
        caller: &mut Caller,
        gateway: &Process,
        kind: usize,
        task: &str,
    ) -> anyhow::Result<f64> {
        let processes = MeasuredProcesses { service: gateway.id(), postmaster: None };
        let before = processes.cpu_time();
        for _ in 0..self.calls {
            caller.call(kind, task).await?;
        }
        let time = (processes.cpu_time() - before).service.as_secs_f64() * 1e6;
        Ok(time / f64::from(u32::try_from(self.calls)?))
    }
}

impl Caller {
    async fn new(environment: &Environment, service: &Process, gateway: &Process) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(gateway.address("gateway")).await?;
        stream.set_nodelay(true)?;
        let (http, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The calls return the error.
            _ = connection.await;
        });
        let (direct, via_gateway) =
            (Connection::open(service.address("task")).await?, Connection::open(gateway.address("gateway")).await?);
        Ok(Self { direct, via_gateway, http, authorization: environment.new_user()?.1 })
    }

    async fn call(&mut self, kind: usize, task: &str) -> anyhow::Result<()> {
        let get = GetTaskRequest { id: task.to_owned() };
        let path = format!("/v1/tasks/{task}");
        match kind {
            0 => drop(self.grpc(&self.direct, GET, &get).await?),
            1 => drop(self.grpc(&self.via_gateway, GET, &get).await?),
            2 => self.json(Method::GET, &path, "").await?,
            3 => drop(self.grpc(&self.direct, CREATE, &create_request()).await?),
            4 => self.json(Method::POST, "/v1/tasks", r#"{"title":"Ring the plumber"}"#).await?,
            _ => self.json(Method::GET, "/healthz", "").await?,
        }
        Ok(())
    }

    async fn grpc(&self, connection: &Connection, path: &'static str, message: &impl Message) -> anyhow::Result<Task> {
        let call = Call { path, authorization: self.authorization.clone(), body: encode_frame(message) };
        Ok(Task::decode(connection.call(call).await?)?)
    }

    async fn json(&mut self, method: Method, path: &str, body: &'static str) -> anyhow::Result<()> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, self.authorization.clone())
            .body(Full::from(body))?;
        self.http.ready().await?;
        let response = self.http.send_request(request).await?;
        ensure!(response.status() == 200, "HTTP status {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }
}

fn create_request() -> CreateTaskRequest {
    let task = Task { title: "Ring the plumber".to_owned(), ..Task::default() };
    CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
}

/// Converts tenths of a microsecond to microseconds.
#[expect(clippy::cast_precision_loss, reason = "nobody waits for so long")]
fn micros(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}
