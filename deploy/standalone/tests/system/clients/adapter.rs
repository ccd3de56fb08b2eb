//! The adapter of a language: a program that translates requests of the driver into calls of the client.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
};

/// The requests without an answer, or `None` after the adapter has exited.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>>;

/// Handles the requests of an adapter that runs in this process.
type Handler = Box<dyn Fn(Map<String, Value>) -> BoxFuture<'static, Value> + Send + Sync>;

/// A running adapter. Dropping it kills its program.
pub enum Adapter {
    Program { requests: mpsc::UnboundedSender<String>, pending: Pending, next_id: AtomicU64, _program: Box<Child> },
    InProcess(Handler),
}

/// A request that the adapter has received.
pub struct Request {
    pub id: u64,
    answer: oneshot::Receiver<Value>,
}

impl Request {
    /// Waits for the answer.
    pub async fn answer(self) -> Value {
        self.answer.await.unwrap_or_else(
            |_| json!({"error": {"code": "ADAPTER_EXITED", "message": "the adapter has exited; its log shows why"}}),
        )
    }
}

impl Adapter {
    /// Starts a program, which writes its log messages to `log`.
    pub fn start(program: &Path, log: &Path) -> Self {
        let log = File::create(log).expect("the folder of the log is writable");
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut program = command.spawn().expect("the adapter starts");
        let (input, output) = (program.stdin.take().expect("piped"), program.stdout.take().expect("piped"));
        let (requests, queue) = mpsc::unbounded_channel();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(write_requests(queue, input));
        tokio::spawn(read_answers(output, Arc::clone(&pending)));
        Self::Program { requests, pending, next_id: AtomicU64::new(1), _program: Box::new(program) }
    }

    pub fn in_process(
        handle: impl Fn(Map<String, Value>) -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        Self::InProcess(Box::new(handle))
    }

    /// Sends a request, which has an `op` and its parameters.
    pub fn send(&self, mut request: Map<String, Value>) -> Request {
        let (sender, answer) = oneshot::channel();
        match self {
            Self::Program { requests, pending, next_id, .. } => {
                let id = next_id.fetch_add(1, Ordering::Relaxed);
                if let Some(pending) = pending.lock().expect("not poisoned").as_mut() {
                    pending.insert(id, sender);
                    request.insert("id".to_owned(), json!(id));
                    // If the adapter has exited, `pending` is cleared, which drops the sender.
                    _ = requests.send(Value::Object(request).to_string());
                }
                Request { id, answer }
            }
            Self::InProcess(handle) => {
                let answering = handle(request);
                tokio::spawn(async move { sender.send(answering.await) });
                Request { id: 0, answer }
            }
        }
    }
}

async fn write_requests(mut queue: mpsc::UnboundedReceiver<String>, mut input: ChildStdin) {
    while let Some(mut line) = queue.recv().await {
        line.push('\n');
        if input.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_answers(output: ChildStdout, pending: Pending) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A line that is no answer leaves its request pending, which the limit of the step reports.
        let Ok(mut answer) = serde_json::from_str::<Map<String, Value>>(&line) else { continue };
        let Some(id) = answer.remove("id").and_then(|id| id.as_u64()) else { continue };
        if let Some(sender) = pending.lock().expect("not poisoned").as_mut().and_then(|pending| pending.remove(&id)) {
            _ = sender.send(Value::Object(answer));
        }
    }
    *pending.lock().expect("not poisoned") = None;
}
