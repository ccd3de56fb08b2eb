//! The stream of a watch.

use std::{
    future::{Future, ready},
    pin::Pin,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, stream};
use service_kit::status::ApiError;
use taskey_proto::{errors::v1::ErrorReason, task::v1::WatchTasksResponse};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use super::{
    Watch,
    sync_page::{ChangeReader, SyncPage},
};

/// Maximum number of changes in one message. A stream keeps a buffer of the size of its largest message: with 100
/// changes, 1000 watches need 30 MiB more.
pub(crate) const PAGE_SIZE: usize = 25;

/// Maximum time between two messages.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(15);

/// Minimum time between two reads of a watch that is up to date, so that an owner who writes all the time costs few reads.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(50);

/// How long a watcher may take to receive a message before it is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The messages of a stream, and the error that ends it.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Returns the messages of a watch, starting with the changes in `first`. They end with the error of `session_end`,
/// when the client disconnects, when it reads too slowly, or when changes cannot be read.
pub(crate) fn watch(
    reader: ChangeReader,
    watch: Watch,
    first: SyncPage,
    session_end: impl Future<Output = ApiError> + Send + 'static,
) -> Messages<WatchTasksResponse> {
    from_task(|messages| send_changes(reader, watch, first, messages), session_end)
}

/// Returns the messages that a task sends. They end with its error, if it returns one, or with the error of
/// `session_end`.
pub(crate) fn from_task<T, F>(
    send: impl FnOnce(mpsc::Sender<T>) -> F,
    session_end: impl Future<Output = ApiError> + Send + 'static,
) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (messages, received) = mpsc::channel(1);
    // A separate task, because nobody polls the stream of a client that does not read. It ends with the stream.
    let task = AbortOnDropHandle::new(tokio::spawn(send(messages)));
    // The error follows the last message.
    let end = task.map(|outcome| outcome.unwrap_or_else(|error| Err(ApiError::internal(error))).err());
    let messages = ReceiverStream::new(received).map(|message| Some(Ok(message)));
    let messages = messages.chain(stream::once(end.map(|error| error.map(|error| Err(Status::from(error))))));
    let session_end = stream::once(session_end.map(|error| Some(Err(Status::from(error)))));
    stream::select(messages, session_end).take_while(|next| ready(next.is_some())).filter_map(ready).boxed()
}

/// Sends a message to a client.
///
/// # Errors
/// OVERLOADED if the client does not receive it in time.
pub(crate) async fn send<T>(messages: &mpsc::Sender<T>, message: T, description: &'static str) -> Result<(), ApiError> {
    messages.send_timeout(message, SEND_TIMEOUT).await.map_err(|_| {
        let error = ApiError::new(Code::ResourceExhausted, ErrorReason::Overloaded, description);
        error.retry_after(Duration::from_secs(1))
    })
}

/// Sends changes until they are received too slowly or cannot be read.
async fn send_changes(
    reader: ChangeReader,
    mut watch: Watch,
    first: SyncPage,
    messages: mpsc::Sender<WatchTasksResponse>,
) -> Result<(), ApiError> {
    let mut page = first;
    // The first message is sent even if there are no changes.
    let mut next_checkpoint = Instant::now();
    loop {
        let SyncPage { changes, list_changes, token, point, has_more } = page;
        if !changes.is_empty() || !list_changes.is_empty() || next_checkpoint <= Instant::now() {
            let message = WatchTasksResponse { changes, list_changes, sync_token: token, checkpoint: !has_more };
            send(&messages, message, "changes were read too slowly; resume the stream with the last token").await?;
            next_checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
        }
        if !has_more {
            let next_read = Instant::now() + MIN_READ_INTERVAL;
            // A change and a timeout are handled alike.
            _ = timeout_at(next_checkpoint, watch.changed()).await;
            sleep_until(next_read).await;
        }
        page = reader.page(watch.owner(), Some(point), PAGE_SIZE).await?;
    }
}
