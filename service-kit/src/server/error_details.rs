//! Makes errors complete: every error has a reason and the request id.

use http::HeaderMap;
use taskey_proto::errors::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::request_id::RequestId;
use crate::status::ApiError;

const GRPC_STATUS: &str = "grpc-status";

/// Where in a call an error of tonic was found.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// Before the response started: the request is invalid.
    Request,
    /// In the response: an error of this server.
    Response,
}

/// The outcome of a call.
pub(super) struct Completed {
    pub(super) code: Code,
    /// The reason of an error.
    pub(super) reason: Option<String>,
}

/// Adds the request id to an error, and a reason if tonic created it. Returns the outcome of the call, if the headers or
/// trailers contain it.
pub(super) fn complete(headers: &mut HeaderMap, id: &RequestId, origin: Origin) -> Option<Completed> {
    // Most calls succeed, so their trailers are not parsed.
    if headers.get(GRPC_STATUS)? == "0" {
        return Some(Completed { code: Code::Ok, reason: None });
    }
    let status = Status::from_header_map(headers)?;
    let status = if status.details().is_empty() { Status::from(convert_tonic_error(&status, origin)) } else { status };
    let mut details = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    let reason = details.error_info().map(|info| info.reason.clone());
    let completed =
        Status::with_error_details_and_metadata(status.code(), status.message(), details, status.metadata().clone());
    // Existing headers are replaced.
    if completed.add_header(headers).is_err() {
        tracing::error!("cannot write an error into the headers");
    }
    Some(Completed { code: completed.code(), reason })
}

/// Converts a status that tonic created. The messages of tonic contain names of Rust types and fields, so they are not
/// passed on.
fn convert_tonic_error(status: &Status, origin: Origin) -> ApiError {
    match (status.code(), origin) {
        (Code::OutOfRange | Code::ResourceExhausted, _) => ApiError::new(
            Code::ResourceExhausted,
            ErrorReason::MessageTooLarge,
            "the message is larger than the server accepts",
        ),
        (Code::Internal, Origin::Request) => {
            tracing::debug!(error = status.message(), "undecodable request");
            ApiError::new(Code::InvalidArgument, ErrorReason::MalformedRequest, "the request cannot be decoded")
        }
        (Code::Unimplemented, _) if status.metadata().contains_key("grpc-accept-encoding") => {
            let message = "the server does not support the compression of the request";
            ApiError::new(Code::Unimplemented, ErrorReason::CompressionUnsupported, message)
        }
        (Code::Unimplemented | Code::NotFound, _) => {
            ApiError::new(status.code(), ErrorReason::MethodUnknown, "this server has no such method or service")
        }
        // The client disconnected before its request had arrived, so it does not read the response.
        (Code::Cancelled, _) => ApiError::new(Code::Cancelled, ErrorReason::MalformedRequest, "the call was cancelled"),
        _ => ApiError::internal(format!("{:?}: {}", status.code(), status.message())),
    }
}
