//! The settings of traces, and the start and the end of their export.

use std::{env, path::PathBuf, time::Duration};

use clap::Args;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::{export::SpanQueue, span};
use crate::{
    clock::Clock,
    ops::{build_info::BuildInfo, config::endpoint},
    random,
    tls::UpstreamTlsArgs,
};

/// How long the end of a program waits until the last spans are sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The settings of traces.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// URL of an OpenTelemetry collector, which receives traces over gRPC (OTLP): http or https. Without it, no traces are
    /// recorded [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Endpoint>,

    /// File with the certificates of the authorities that issue the certificate of the collector (PEM), for an https URL
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca_file: Option<PathBuf>,

    /// Fraction of the traces that are recorded, from 0 to 1. A trace that another service has begun is recorded if that
    /// service records it
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_name = "RATIO", value_parser = ratio)]
    pub trace_sample_ratio: f64,
}

/// Parses a fraction.
fn ratio(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("expected a number from 0 to 1".to_owned())
}

/// The traces of a program.
#[derive(Debug)]
pub struct Traces(Option<SpanQueue>);

impl Traces {
    /// Begins to record traces, if there is a collector. It need not be reachable.
    ///
    /// # Errors
    /// If the file of `--otlp-ca-file` is missing or unusable, or traces are recorded already.
    pub async fn start(args: TraceArgs, build: &BuildInfo, clock: &Clock) -> anyhow::Result<Self> {
        let Some(endpoint) = args.otlp_endpoint else { return Ok(Self(None)) };
        let is_https = endpoint.uri().scheme_str() == Some("https");
        anyhow::ensure!(
            !is_https || args.otlp_ca_file.is_some(),
            "{} needs --otlp-ca-file, the authorities that issue the certificate of the collector; those of the system \
             are often in /etc/ssl/certs/ca-certificates.crt",
            endpoint.uri()
        );
        let tls = UpstreamTlsArgs { upstream_ca_file: args.otlp_ca_file, ..UpstreamTlsArgs::default() };
        let dialer = tls.open([endpoint.uri()], clock).await?;
        let resource = resource(build);
        let queue = SpanQueue::start(endpoint.connect_with_connector_lazy(dialer), &resource);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(args.trace_sample_ratio))))
            .with_span_processor(queue.clone())
            .build();
        span::install(provider.tracer(build.name))?;
        Ok(Self(Some(queue)))
    }

    /// Runs the servers of the program, and then sends the last spans, for which it waits at most one second.
    pub async fn flush_after<T>(self, servers: impl Future<Output = T>) -> T {
        // The future of a whole program is large, and each block that contains it copies it on the stack.
        let served = Box::pin(servers).await;
        if let Some(queue) = self.0
            && timeout(FLUSH_LIMIT, queue.flush()).await.is_err()
        {
            tracing::warn!("the collector did not accept the last spans in time");
        }
        served
    }
}

/// Describes the program. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` take precedence over its name.
fn resource(build: &BuildInfo) -> Resource {
    let name = env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    Resource::builder()
        .with_attribute(KeyValue::new("service.version", build.version))
        .with_attribute(KeyValue::new("service.instance.id", random::id().to_string()))
        .with_service_name(name.unwrap_or_else(|| build.name.to_owned()))
        .build()
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn ratio_is_a_number_from_zero_to_one() {
        assert_eq!(["0", "1", "0.25"].map(ratio), [Ok(0.0), Ok(1.0), Ok(0.25)]);
        for text in ["", "-0.1", "1.1", "NaN", "inf", "half"] {
            assert!(ratio(text).is_err(), "{text}");
        }
    }
}
