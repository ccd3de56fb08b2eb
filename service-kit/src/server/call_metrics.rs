//! Metrics of gRPC calls, with the names and labels of go-grpc-middleware, so that dashboards for it can be used.
//!
//! All labels come from the descriptors of the services and from the codes and reasons of errors, so that no client can
//! add a time series. The handles are created with the server; a call needs one lookup and no allocation.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use metrics::{Counter, Histogram, Label};
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::time::Instant;
use tonic::Code;

use super::descriptors::{BUILT_IN_SERVICES, FILE_DESCRIPTOR_SETS};
use crate::{
    status::without_prefix,
    trace::{CallSpan, Rpc},
};

/// The label of services, methods and reasons that are not in the descriptors.
const UNKNOWN: &str = "unknown";

/// The codes that are exported before a call has ended with them, so that alerts see the first one.
const EXPORTED_CODES: [Code; 4] = [Code::Ok, Code::DeadlineExceeded, Code::Internal, Code::Unavailable];

/// The number of status codes.
const CODES: usize = 17;

/// The metrics of the methods of a server.
pub struct CallMetrics {
    /// By the path of the method: `/package.Service/Method`.
    methods: HashMap<String, Arc<MethodMetrics>>,
    unknown: Arc<MethodMetrics>,
    /// The failed calls, by reason.
    errors: HashMap<String, Counter>,
    unknown_errors: Counter,
}

/// The metrics of a method.
struct MethodMetrics {
    labels: [Label; 3],
    /// The name in traces; `None` if the calls are not traced, as health checks.
    rpc: Option<Rpc>,
    started: Counter,
    /// The calls that have ended, by status code. Each is created when it is first used.
    handled: [OnceLock<Counter>; CODES],
    duration: Histogram,
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallMetrics").field("methods", &self.methods.len()).finish_non_exhaustive()
    }
}

impl CallMetrics {
    /// Creates the metrics of the services with these full names, and of the services that every server has.
    ///
    /// # Errors
    /// If the descriptors are invalid.
    pub fn new(services: &[&str]) -> anyhow::Result<Arc<Self>> {
        let error = |reason: &str| metrics::counter!("taskey_call_errors_total", "reason" => reason.to_owned());
        let (mut methods, mut errors) = (HashMap::new(), HashMap::new());
        for set in FILE_DESCRIPTOR_SETS {
            for file in FileDescriptorSet::decode(set).context("invalid descriptors")?.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    if services.contains(&&*name) || BUILT_IN_SERVICES.contains(&&*name) {
                        methods.extend(service.method.iter().map(|method| MethodMetrics::with_path(&name, method)));
                    }
                }
                let reasons = file.enum_type.iter().filter(|kind| kind.name() == "ErrorReason");
                let reasons = reasons.flat_map(|kind| &kind.value).map(|value| without_prefix(value.name()));
                errors.extend(reasons.map(|reason| (reason.to_owned(), error(reason))));
            }
        }
        let unknown = MethodMetrics::new("unary", UNKNOWN, UNKNOWN, false);
        Ok(Arc::new(Self { methods, unknown, errors, unknown_errors: error(UNKNOWN) }))
    }

    /// Counts a call to the method with this path. The record ends with the call.
    pub(super) fn start(self: &Arc<Self>, path: &str) -> CallRecord {
        let method = self.methods.get(path).unwrap_or(&self.unknown);
        method.started.increment(1);
        let span = CallSpan::default();
        CallRecord { call: Some((Arc::clone(self), Arc::clone(method))), started: Instant::now(), span }
    }
}

impl MethodMetrics {
    /// Returns the path and the metrics of a method.
    fn with_path(service: &str, method: &MethodDescriptorProto) -> (String, Arc<Self>) {
        let is_traced = !BUILT_IN_SERVICES.contains(&service);
        (format!("/{service}/{}", method.name()), Self::new(kind(method), service, method.name(), is_traced))
    }

    fn new(kind: &'static str, service: &str, method: &str, is_traced: bool) -> Arc<Self> {
        let labels = [
            Label::from_static_parts("grpc_type", kind),
            Label::new("grpc_service", service.to_owned()),
            Label::new("grpc_method", method.to_owned()),
        ];
        let metrics = Self {
            started: metrics::counter!("grpc_server_started_total", labels.iter()),
            handled: [const { OnceLock::new() }; CODES],
            duration: metrics::histogram!("grpc_server_handling_seconds", labels.iter()),
            labels,
            rpc: is_traced.then(|| Rpc::new(service, method)),
        };
        if service != UNKNOWN {
            for code in EXPORTED_CODES {
                _ = metrics.handled(code);
            }
        }
        Arc::new(metrics)
    }

    fn record(&self, code: Code, duration: Duration) {
        self.handled(code).increment(1);
        self.duration.record(duration);
    }

    fn handled(&self, code: Code) -> &Counter {
        self.handled[code as usize].get_or_init(|| {
            let code = Label::from_static_parts("grpc_code", code_name(code));
            metrics::counter!("grpc_server_handled_total", [&self.labels[..], &[code]].concat())
        })
    }
}

/// A call in progress. If it is dropped before it has ended, the client has cancelled the call.
#[derive(Debug)]
pub(super) struct CallRecord {
    call: Option<(Arc<CallMetrics>, Arc<MethodMetrics>)>,
    started: Instant,
    /// Ends with the record.
    span: CallSpan,
}

impl fmt::Debug for MethodMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MethodMetrics").field(&self.labels[2]).finish()
    }
}

impl CallRecord {
    /// Returns the time since the start of the call.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the name of the RPC, if its calls are traced.
    pub(super) fn traced_rpc(&self) -> Option<&Rpc> {
        self.call.as_ref().and_then(|(_, method)| method.rpc.as_ref())
    }

    /// Reports whether the requests of the call are a stream.
    pub(super) fn receives_stream(&self) -> bool {
        self.call.as_ref().is_some_and(|(_, method)| method.labels[0].value() == "client_stream")
    }

    /// Sets the span of the call.
    pub(super) fn set_span(&mut self, span: CallSpan) {
        self.span = span;
    }

    /// Records the end of the call, once. `reason` is that of its error.
    pub(super) fn end(&mut self, code: Code, reason: Option<&str>) {
        let Some((metrics, method)) = self.call.take() else { return };
        method.record(code, self.elapsed());
        self.span.end(code);
        if code != Code::Ok {
            let error = reason.and_then(|reason| metrics.errors.get(reason));
            error.unwrap_or(&metrics.unknown_errors).increment(1);
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        if let Some((_, method)) = self.call.take() {
            method.record(Code::Cancelled, self.elapsed());
        }
    }
}

/// Returns the type of a method in the terms of go-grpc-middleware.
fn kind(method: &MethodDescriptorProto) -> &'static str {
    match (method.client_streaming(), method.server_streaming()) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

/// Returns the name of a status code in Go, which dashboards for go-grpc-middleware expect.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
