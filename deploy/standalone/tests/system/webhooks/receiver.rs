//! A receiver of webhooks, which checks that messages arrive in order and none is lost.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// The messages that have arrived for one webhook.
#[derive(Debug, Default)]
struct Arrivals {
    /// The number of different changes. Their tasks have the titles 0, 1, 2 and so on.
    changes: usize,
    messages: usize,
    repetitions: usize,
    /// The id and the changes of the last message.
    last: (String, Vec<String>),
}

impl Arrivals {
    /// Records a message. It must be the next one, or the last one again.
    fn record(&mut self, id: String, titles: Vec<String>) -> Result<(), String> {
        if (&id, &titles) == (&self.last.0, &self.last.1) {
            self.repetitions += 1;
            return Ok(());
        }
        let next: Vec<_> = (self.changes..).take(titles.len()).map(|number| number.to_string()).collect();
        if titles.is_empty() || titles != next {
            return Err(format!("{titles:?} in message {id} after {:?}", self.last));
        }
        self.changes += titles.len();
        self.messages += 1;
        self.last = (id, titles);
        Ok(())
    }
}

/// The numbers of all webhooks together.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub changes: usize,
    pub messages: usize,
    pub repetitions: usize,
    /// The first message that was not the expected one.
    pub error: Option<String>,
}

#[derive(Default)]
struct Journal {
    /// By the path of the URL.
    webhooks: Mutex<HashMap<String, Arrivals>>,
    totals: watch::Sender<Totals>,
}

impl Journal {
    fn record(&self, path: &str, id: String, titles: Vec<String>) {
        let mut webhooks = self.webhooks();
        let error = webhooks.entry(path.to_owned()).or_default().record(id, titles).err();
        let sum = |count: fn(&Arrivals) -> usize| webhooks.values().map(count).sum();
        let (changes, messages) = (sum(|arrivals| arrivals.changes), sum(|arrivals| arrivals.messages));
        let repetitions = sum(|arrivals| arrivals.repetitions);
        self.totals.send_modify(|totals| {
            let error = totals.error.take().or_else(|| error.map(|error| format!("{path}: {error}")));
            *totals = Totals { changes, messages, repetitions, error };
        });
    }

    fn webhooks(&self) -> MutexGuard<'_, HashMap<String, Arrivals>> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    address: SocketAddr,
    journal: Arc<Journal>,
    _running: AbortOnDropHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let journal = Arc::<Journal>::default();
        let running = AbortOnDropHandle::new(tokio::spawn(accept(listener, Arc::clone(&journal))));
        Self { address, journal, _running: running }
    }

    /// Returns the URL of a webhook.
    pub fn url(&self, webhook: &str) -> String {
        format!("http://{}/{webhook}", self.address)
    }

    /// Returns what has arrived so far, and is notified of each message.
    pub fn totals(&self) -> watch::Receiver<Totals> {
        self.journal.totals.subscribe()
    }

    /// Returns the number of different changes of each webhook.
    pub fn changes(&self) -> Vec<usize> {
        self.journal.webhooks().values().map(|arrivals| arrivals.changes).collect()
    }
}

async fn accept(listener: TcpListener, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, Arc::clone(&journal)));
    }
}

async fn serve(stream: TcpStream, journal: Arc<Journal>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let journal = Arc::clone(&journal);
        async move {
            let (head, body) = request.into_parts();
            // Otherwise, the sender was killed before it has sent everything.
            if let Ok(body) = body.collect().await {
                let id = head.headers["webhook-id"].to_str().expect("ASCII").to_owned();
                journal.record(head.uri.path(), id, titles(&body.to_bytes()));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    // The sender may be killed at any time.
    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Returns the titles of the changed tasks.
fn titles(body: &[u8]) -> Vec<String> {
    let message: Value = serde_json::from_slice(body).expect("JSON");
    let changes = message["changes"].as_array().expect("a list");
    changes.iter().map(|change| change["task"]["title"].as_str().expect("a title").to_owned()).collect()
}
