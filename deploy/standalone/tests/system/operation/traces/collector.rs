//! A collector of OpenTelemetry that keeps what it receives.

use std::{net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode},
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// How long spans may take to arrive. A program sends them every second.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// A running collector.
pub struct Collector {
    address: SocketAddr,
    received: watch::Receiver<Vec<ExportTraceServiceRequest>>,
}

struct Receiver(watch::Sender<Vec<ExportTraceServiceRequest>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send_modify(|received| received.push(request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, received) = watch::channel(Vec::new());
        let service = TraceServiceServer::new(Receiver(sender));
        let server = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self { address, received }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests that have arrived.
    pub fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.received.borrow().clone()
    }

    /// Returns the spans that have arrived.
    pub fn spans(&self) -> Vec<Span> {
        spans_of(&self.received.borrow())
    }

    /// Waits until this many spans have arrived.
    pub async fn wait_for_count(&self, count: usize) {
        let mut received = self.received.clone();
        let arrived = timeout(ARRIVAL_LIMIT, received.wait_for(|requests| spans_of(requests).len() >= count)).await;
        assert!(arrived.is_ok(), "fewer than {count} spans in {:#?}", self.spans());
    }

    /// Waits for a span.
    pub async fn wait_for(&self, what: &str, is_expected: impl Fn(&Span) -> bool) -> Span {
        let mut received = self.received.clone();
        let arrived = received.wait_for(|requests| spans_of(requests).iter().any(&is_expected));
        let Ok(arrived) = timeout(ARRIVAL_LIMIT, arrived).await else { panic!("no {what} in {:#?}", self.spans()) };
        let spans = spans_of(&arrived.expect("the collector runs"));
        spans.into_iter().find(is_expected).expect("it has arrived")
    }

    /// Waits for a span with this name in a trace, and below this parent.
    pub async fn wait_for_child(&self, parent: &Span, name: &str) -> Span {
        let is_child = |span: &Span| span.parent_span_id == parent.span_id && span.name == name;
        self.wait_for(name, |span| span.trace_id == parent.trace_id && is_child(span)).await
    }
}

fn spans_of(requests: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let resources = requests.iter().flat_map(|request| &request.resource_spans);
    resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).cloned().collect()
}

/// Returns the text of an attribute.
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

/// Returns the number of an attribute.
pub fn number(attributes: &[KeyValue], key: &str) -> i64 {
    match value(attributes, key) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{key}: {other:?}"),
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.clone()
}

/// Reports whether a span has failed.
pub fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// Returns an id as it is in headers and in the log.
pub fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
