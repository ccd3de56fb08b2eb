//! Parses batches of writes to tasks.

use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest,
    batch_write_tasks_request::{Write as PbWrite, write::Write as PbKind},
};

use super::{
    update::update,
    validator::RequestValidator,
    write::{complete, create, delete, move_task},
};
use crate::model::{
    recurrence::SearchBudget,
    write::{RepeatedFields, Write},
};

/// Maximum number of writes in a batch.
const MAX_WRITES: usize = 100;

/// Returns the path prefix of a write in a batch.
fn prefix(index: usize, kind: &str) -> String {
    format!("writes[{index}].{kind}.")
}

/// Parses the writes of a batch. Returns them, and the path prefix of each.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub(crate) fn parse(request: BatchWriteTasksRequest) -> Result<(Vec<Write>, Vec<String>), ApiError> {
    let mut violations = Violations::default();
    if !(1..=MAX_WRITES).contains(&request.writes.len()) {
        violations.add("writes", "must contain 1 to 100 writes");
        return violations.finish(None);
    }
    let (mut writes, mut prefixes, mut first_invalid_index) = (Vec::new(), Vec::new(), None);
    let mut searches = SearchBudget::default();
    for (index, PbWrite { write }) in request.writes.into_iter().enumerate() {
        if let Some(kind) = write {
            let prefix = prefix(index, kind_name(&kind));
            let mut validator =
                RequestValidator { violations: &mut violations, prefix: &prefix, searches: &mut searches };
            reject_write_options(&mut validator, &kind);
            writes.extend(parse_write(kind, &mut validator));
            prefixes.push(prefix);
        } else {
            let description =
                "must set create, update, delete, complete, reopen, move, skip_occurrence or stop_recurrence";
            violations.add(format!("writes[{index}]"), description);
        }
        first_invalid_index = first_invalid_index.or((!violations.is_empty()).then_some(index));
    }
    let parsed = violations.finish(Some((writes, prefixes)));
    parsed.map_err(|error| first_invalid_index.into_iter().fold(error, with_write_index))
}

/// Adds the index of the first write that failed to the error of a batch.
pub(crate) fn with_write_index(error: ApiError, index: usize) -> ApiError {
    error.metadata("write", index)
}

fn kind_name(kind: &PbKind) -> &'static str {
    match kind {
        PbKind::Create(_) => "create",
        PbKind::Update(_) => "update",
        PbKind::Delete(_) => "delete",
        PbKind::Complete(_) => "complete",
        PbKind::Reopen(_) => "reopen",
        PbKind::Move(_) => "move",
        PbKind::SkipOccurrence(_) => "skip_occurrence",
        PbKind::StopRecurrence(_) => "stop_recurrence",
    }
}

fn parse_write(kind: PbKind, validator: &mut RequestValidator<'_>) -> Option<Write> {
    match kind {
        PbKind::Create(request) => create(request, validator),
        PbKind::Update(request) => update(request, RepeatedFields::default(), validator),
        PbKind::Delete(request) => delete(&request, validator),
        PbKind::Complete(request) => complete(&request, validator),
        PbKind::Reopen(request) => validator.target("id", &request.id, &request.etag).map(Write::Reopen),
        PbKind::Move(request) => move_task(&request, validator),
        PbKind::SkipOccurrence(request) => {
            validator.target("id", &request.id, &request.etag).map(Write::SkipOccurrence)
        }
        PbKind::StopRecurrence(request) => {
            validator.target("id", &request.id, &request.etag).map(Write::StopRecurrence)
        }
    }
}

/// Rejects the request id and `validate_only` of a single write: both apply to the whole batch.
fn reject_write_options(validator: &mut RequestValidator<'_>, kind: &PbKind) {
    let (request_id, validate_only) = match kind {
        PbKind::Create(request) => (&request.request_id, request.validate_only),
        PbKind::Update(request) => (&request.request_id, request.validate_only),
        PbKind::Delete(request) => (&request.request_id, request.validate_only),
        PbKind::Complete(request) => (&request.request_id, request.validate_only),
        PbKind::Reopen(request) => (&request.request_id, request.validate_only),
        PbKind::Move(request) => (&request.request_id, request.validate_only),
        PbKind::SkipOccurrence(request) => (&request.request_id, request.validate_only),
        PbKind::StopRecurrence(request) => (&request.request_id, request.validate_only),
    };
    if !request_id.is_empty() {
        validator.add("request_id", "must be set on the batch, not on one of its writes");
    }
    if validate_only {
        validator.add("validate_only", "must be set on the batch, not on one of its writes");
    }
}
