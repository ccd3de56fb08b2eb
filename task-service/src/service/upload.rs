//! Receives the file of an `ImportTasks` call.

use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{FileFormat, ImportTasksRequest};
use tonic::{Status as GrpcStatus, Streaming};

use crate::{
    model::file::ImportFormat,
    transfer::import::spool::{Spool, Spooled},
};

/// A file that was received.
pub(super) struct Upload {
    pub(super) file: Spooled,
    pub(super) format: ImportFormat,
    pub(super) validate_only: bool,
}

/// Receives a file.
///
/// # Errors
/// VALIDATION_FAILED, MESSAGE_TOO_LARGE, and those of the stream.
pub(super) async fn receive(mut messages: Streaming<ImportTasksRequest>) -> Result<Upload, GrpcStatus> {
    let first = messages.message().await?.unwrap_or_default();
    let mut violations = Violations::default();
    let format = violations.check("format", ImportFormat::try_from(first.format()));
    let format = violations.finish(format)?;
    let mut spool = Spool::default();
    spool.append(&first.content).await?;
    while let Some(message) = messages.message().await? {
        check_repeated(&first, &message)?;
        spool.append(&message.content).await?;
    }
    Ok(Upload { file: spool.finish().await?, format, validate_only: first.validate_only })
}

/// Checks that a message does not contradict the first one.
fn check_repeated(first: &ImportTasksRequest, message: &ImportTasksRequest) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    if ![FileFormat::Unspecified.into(), first.format].contains(&message.format) {
        violations.add("format", "must be set in the first message, and must not change");
    }
    if message.validate_only && !first.validate_only {
        violations.add("validate_only", "must be set in the first message, and must not change");
    }
    violations.finish(Some(()))
}
