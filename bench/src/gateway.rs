//! What the gateway adds to a call, and where that time goes.

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
    client::{Call, Connection, framed},
    load::histogram,
    machine::{Cores, Counted},
    target::{Database, Ground, Process, patiently},
};

/// Calls one after the other, directly and through the gateway by turns
#[derive(clap::Args)]
pub(crate) struct Gateway {
    /// How often each call is made
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    calls: usize,

    /// Where the database lies while it is needed
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    folder: PathBuf,
}

const GET: &str = "/taskey.task.v1.TaskService/GetTask";
const CREATE: &str = "/taskey.task.v1.TaskService/CreateTask";

/// The ways to a task, in the order in which they are gone.
const WAYS: [&str; 6] = [
    "get, gRPC, directly",
    "get, gRPC through the gateway",
    "get, JSON over HTTP/1.1",
    "create, gRPC, directly",
    "create, JSON over HTTP/1.1",
    "/healthz, which calls nobody",
];

/// Who calls, and over which connections.
struct Caller {
    direct: Connection,
    passed: Connection,
    http: SendRequest<Full<Bytes>>,
    authorization: HeaderValue,
}

impl Gateway {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let ground = Ground::new(&self.folder, Cores::find()?)?;
        let service = ground.task_service(&Database::sqlite(&ground).url)?;
        let gateway = ground.gateway(&service)?;
        let mut caller = Caller::new(&ground, &service, &gateway).await?;
        let task = patiently(async || caller.grpc(&caller.direct, CREATE, &creation()).await).await?.id;
        let mut latencies: Vec<Histogram<u64>> = WAYS.iter().map(|_| histogram()).collect();
        for call in 0..self.calls + self.calls / 10 {
            for (way, latencies) in latencies.iter_mut().enumerate() {
                let begun = Instant::now();
                caller.go(way, &task).await.with_context(|| WAYS[way])?;
                // What is made first is not what there is to measure: caches, and code that has not run yet.
                if call >= self.calls / 10 {
                    latencies.record(u64::try_from(begun.elapsed().as_nanos() / 100)?)?;
                }
            }
        }
        writeln!(
            io::stdout(),
            "in µs, of {} calls each, one after the other, and the gateway's time on a core",
            self.calls
        )?;
        writeln!(io::stdout(), "{:<32} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "CPU")?;
        for (way, latencies) in latencies.iter().enumerate() {
            let [half, most, nearly] = [0.5, 0.9, 0.99].map(|quantile| micros(latencies.value_at_quantile(quantile)));
            let cpu = self.time_on_core(&mut caller, &gateway, way, &task).await?;
            writeln!(io::stdout(), "{:<32} {half:>8.1} {most:>8.1} {nearly:>8.1} {cpu:>8.1}", WAYS[way])?;
        }
        Ok(())
    }

    /// How long the gateway is at work for a call, in µs.
    async fn time_on_core(
        &self,
        caller: &mut Caller,
        gateway: &Process,
        way: usize,
        task: &str,
    ) -> anyhow::Result<f64> {
        let counted = Counted { service: gateway.id(), postmaster: None };
        let before = counted.time();
        for _ in 0..self.calls {
            caller.go(way, task).await?;
        }
        let time = counted.time().saturating_sub(before).as_secs_f64() * 1e6;
        Ok(time / f64::from(u32::try_from(self.calls)?))
    }
}

impl Caller {
    async fn new(ground: &Ground, service: &Process, gateway: &Process) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(gateway.address).await?;
        stream.set_nodelay(true)?;
        let (http, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Who calls finds out.
            _ = connection.await;
        });
        let (direct, passed) = (Connection::open(service.address).await?, Connection::open(gateway.address).await?);
        Ok(Self { direct, passed, http, authorization: ground.user()?.1 })
    }

    async fn go(&mut self, way: usize, task: &str) -> anyhow::Result<()> {
        let get = GetTaskRequest { id: task.to_owned() };
        let path = format!("/v1/tasks/{task}");
        match way {
            0 => drop(self.grpc(&self.direct, GET, &get).await?),
            1 => drop(self.grpc(&self.passed, GET, &get).await?),
            2 => self.json(Method::GET, &path, "").await?,
            3 => drop(self.grpc(&self.direct, CREATE, &creation()).await?),
            4 => self.json(Method::POST, "/v1/tasks", r#"{"title":"Ring the plumber"}"#).await?,
            _ => self.json(Method::GET, "/healthz", "").await?,
        }
        Ok(())
    }

    async fn grpc(&self, connection: &Connection, path: &'static str, message: &impl Message) -> anyhow::Result<Task> {
        let call = Call { path, authorization: self.authorization.clone(), body: framed(message) };
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

fn creation() -> CreateTaskRequest {
    let task = Task { title: "Ring the plumber".to_owned(), ..Task::default() };
    CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() }
}

/// Of tenths.
#[expect(clippy::cast_precision_loss, reason = "nobody waits for so long")]
fn micros(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}
