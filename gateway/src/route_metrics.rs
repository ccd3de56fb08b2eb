//! Metrics of the requests to the gateway. All labels come from the contract and from fixed sets, so that no client can
//! add a time series.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Label};
use prost_reflect::DescriptorPool;

/// The status codes of the gateway. Each is a label; others have the label [`OTHER`].
const CODES: [u16; 22] =
    [200, 204, 304, 400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 429, 431, 499, 500, 501, 503, 504];

/// The label of methods and status codes that are in no fixed set.
const OTHER: &str = "other";

/// The route of requests that match no binding.
const UNMATCHED: &str = "unmatched";

/// The methods of requests that match no binding.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The metrics of a route.
pub struct RouteMetrics {
    labels: [Label; 2],
    /// By the index of the status code in [`CODES`], the last one for others. Each is created when it is first used.
    by_code: [OnceLock<Recorded>; CODES.len() + 1],
}

struct Recorded {
    requests: Counter,
    duration: Histogram,
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouteMetrics").field(&self.labels).finish()
    }
}

impl RouteMetrics {
    /// Creates the metrics of a route: its method, and the template of its path.
    #[must_use]
    pub fn new(method: &str, route: &str) -> Arc<Self> {
        let labels = [Label::new("method", method.to_owned()), Label::new("route", route.to_owned())];
        Arc::new(Self { labels, by_code: [const { OnceLock::new() }; CODES.len() + 1] })
    }

    /// Returns the template of the path, unless the requests match no binding.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        Some(self.labels[1].value()).filter(|route| *route != UNMATCHED)
    }

    /// Records a response, and the time until it began.
    pub fn record(&self, code: StatusCode, duration: Duration) {
        let index = CODES.iter().position(|known| *known == code.as_u16());
        let recorded = self.by_code[index.unwrap_or(CODES.len())].get_or_init(|| {
            let code = Label::new("code", index.map_or_else(|| OTHER.to_owned(), |index| CODES[index].to_string()));
            let labels = [&self.labels[..], &[code]].concat();
            Recorded {
                requests: metrics::counter!("http_server_requests_total", labels.clone()),
                duration: metrics::histogram!("http_server_request_duration_seconds", labels),
            }
        });
        recorded.requests.increment(1);
        recorded.duration.record(duration);
    }
}

/// The metrics of requests that no binding serves.
#[derive(Debug)]
pub struct FixedRoutes {
    /// The RPCs, and the files and health checks of the gateway, by path.
    by_path: HashMap<String, Arc<RouteMetrics>>,
    /// Requests that match nothing, by method.
    unmatched: Vec<(Method, Arc<RouteMetrics>)>,
    other: Arc<RouteMetrics>,
}

impl FixedRoutes {
    /// Creates the metrics of the RPCs in `pool`, and of the paths that the gateway serves itself.
    pub fn new<'a>(pool: &DescriptorPool, paths: impl Iterator<Item = &'a str>) -> Self {
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let rpcs = methods.map(|rpc| format!("/{}/{}", rpc.parent_service().full_name(), rpc.name()));
        let rpcs = rpcs.map(|path| (RouteMetrics::new("POST", &path), path));
        let files = paths.map(|path| (RouteMetrics::new("GET", path), path.to_owned()));
        Self {
            by_path: rpcs.chain(files).map(|(metrics, path)| (path, metrics)).collect(),
            unmatched: METHODS.map(|method| (method.clone(), RouteMetrics::new(method.as_str(), UNMATCHED))).into(),
            other: RouteMetrics::new(OTHER, UNMATCHED),
        }
    }

    /// Returns the metrics of the RPC or the file with this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&RouteMetrics> {
        self.by_path.get(path).map(|metrics| &**metrics)
    }

    /// Returns the metrics of requests with this method that match nothing.
    #[must_use]
    pub fn unmatched(&self, method: &Method) -> &RouteMetrics {
        self.unmatched.iter().find(|(known, _)| known == method).map_or(&self.other, |(_, metrics)| metrics)
    }
}
