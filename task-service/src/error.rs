//! Why this service refuses a call, beyond what service-kit knows.

use service_kit::status::Refusal;
use taskey_proto::errors::v1::ErrorReason;
use tonic::Code;

/// The caller has no such task. Nobody can tell from it whether somebody else has.
pub(crate) fn task_not_found() -> Refusal {
    Refusal::new(Code::NotFound, ErrorReason::TaskNotFound, "there is no such task")
}

/// The task is no longer as the caller has seen it.
pub(crate) fn etag_mismatch() -> Refusal {
    Refusal::new(Code::Aborted, ErrorReason::EtagMismatch, "the task has changed since the etag was read")
}
