//! Requests whose body is a file, which is sent to the service in parts, as it arrives.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::pending, stream};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use service_kit::status::ApiError;
use taskey_proto::errors::v1::ErrorReason;
use tokio::{sync::oneshot, time::timeout};
use tonic::{Code, Status};

use crate::{
    backend,
    http::{call::Call, error::HttpError},
    quota::{Client, Permit},
};

/// Maximum size of a part. Services accept messages of 256 KiB.
const PART_BYTES: usize = 128 * 1024;

/// How much of a file is in memory: a part, and the rest of what has arrived with it.
const BUFFER_BYTES: usize = 4 * PART_BYTES;

/// How long a body may send nothing. Services wait longer, so that their error never comes first.
const STALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Makes a call whose first message is that of the call. Each other one contains a part of the body, in the field
/// `content`. Returns the response message.
///
/// # Errors
/// Those of the call; `MALFORMED_REQUEST` if the body ends early; 408 if it does not arrive in time; `OVERLOADED` if there
/// is no memory for it.
pub async fn send<B>(
    call: Call<'_>,
    content: &FieldDescriptor,
    body: B,
    permit: &mut Permit,
) -> Result<Bytes, HttpError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    permit.grow(BUFFER_BYTES)?;
    let Call { request, route, deadline, message, metadata, .. } = call;
    let client = Client::from_extensions(&request.extensions);
    let (failed, failure) = oneshot::channel();
    let is_late = Arc::new(AtomicBool::new(false));
    let parts = Parts {
        body: Box::pin(body),
        rest: Bytes::new(),
        content: content.clone(),
        failed: Some(failed),
        is_late: Arc::clone(&is_late),
    };
    let parts = stream::unfold(parts, async |mut parts| Some((parts.next().await?, parts)));
    let messages = stream::iter([message]).chain(parts);
    let failure = async {
        match failure.await {
            Ok(status) => status,
            Err(_) => pending().await,
        }
    };
    let request = backend::new_request(messages, metadata);
    let response = route.backend.upload(&route.rpc, request, failure, client, deadline).await;
    response.map_err(|status| {
        let error = HttpError::from(status);
        if is_late.load(Ordering::Relaxed) { error.with_status_code(StatusCode::REQUEST_TIMEOUT) } else { error }
    })
}

/// The parts of a body.
struct Parts<B> {
    body: Pin<Box<B>>,
    /// What has arrived and was not sent.
    rest: Bytes,
    content: FieldDescriptor,
    /// Ends the call if the body fails.
    failed: Option<oneshot::Sender<Status>>,
    is_late: Arc<AtomicBool>,
}

impl<B> Parts<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Returns the next part, or `None` at the end. A body that fails has no end.
    async fn next(&mut self) -> Option<DynamicMessage> {
        while self.rest.is_empty() {
            let error = match timeout(STALL_TIMEOUT, self.body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    self.rest = frame.into_data().unwrap_or_default();
                    continue;
                }
                Ok(Some(Err(_))) => {
                    ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, "the body ended early")
                }
                Err(_) => {
                    self.is_late.store(true, Ordering::Relaxed);
                    backend::request_timeout()
                }
            };
            if let Some(failed) = self.failed.take() {
                // The call has ended already if nobody receives it.
                failed.send(error.into()).ok();
            }
            pending::<()>().await;
        }
        let part = self.rest.split_to(self.rest.len().min(PART_BYTES));
        let mut message = DynamicMessage::new(self.content.parent_message().clone());
        message.set_field(&self.content, Value::Bytes(part));
        Some(message)
    }
}
