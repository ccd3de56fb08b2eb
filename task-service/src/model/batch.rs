//! Requests that write several tasks at once.

use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{
    BatchWriteTasksRequest,
    batch_write_tasks_request::{Write as PbWrite, write::Write as PbKind},
};

use super::write::{RequestValidator, Write, create, delete, move_task, update};

/// More writes are not taken at once.
const MAX_WRITES: usize = 100;

/// The prefix of the paths of a write of a batch, of which `kind` is the name.
fn prefix(index: usize, kind: &str) -> String {
    format!("writes[{index}].{kind}.")
}

/// Parses the writes of a batch, each with the prefix of its paths.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub(crate) fn parse(request: BatchWriteTasksRequest) -> Result<(Vec<Write>, Vec<String>), ApiError> {
    let mut violations = Violations::default();
    if !(1..=MAX_WRITES).contains(&request.writes.len()) {
        violations.add("writes", "must be 1 to 100");
        return violations.finish(None);
    }
    let (mut writes, mut prefixes, mut failed) = (Vec::new(), Vec::new(), None);
    for (index, PbWrite { write }) in request.writes.into_iter().enumerate() {
        if let Some(kind) = write {
            let prefix = prefix(index, name(&kind));
            let mut validator = RequestValidator { violations: &mut violations, prefix: &prefix };
            refuse_own_retry(&mut validator, &kind);
            writes.extend(one(kind, &mut validator));
            prefixes.push(prefix);
        } else {
            violations.add(format!("writes[{index}]"), "must say what to do");
        }
        failed = failed.or((!violations.is_empty()).then_some(index));
    }
    let parsed = violations.finish(Some((writes, prefixes)));
    parsed.map_err(|error| failed.into_iter().fold(error, of_write))
}

/// Says which write of a batch an error is about; of several, the first.
pub(crate) fn of_write(error: ApiError, number: usize) -> ApiError {
    error.metadata("write", number)
}

fn name(kind: &PbKind) -> &'static str {
    match kind {
        PbKind::Create(_) => "create",
        PbKind::Update(_) => "update",
        PbKind::Delete(_) => "delete",
        PbKind::Complete(_) => "complete",
        PbKind::Reopen(_) => "reopen",
        PbKind::Move(_) => "move",
    }
}

fn one(kind: PbKind, validator: &mut RequestValidator<'_>) -> Option<Write> {
    match kind {
        PbKind::Create(request) => create(request, validator),
        PbKind::Update(request) => update(request, validator),
        PbKind::Delete(request) => delete(&request, validator),
        PbKind::Complete(request) => validator.target("id", &request.id, &request.etag).map(Write::Complete),
        PbKind::Reopen(request) => validator.target("id", &request.id, &request.etag).map(Write::Reopen),
        PbKind::Move(request) => move_task(&request, validator),
    }
}

/// The batch as a whole is retried and tried out, not a part of it.
fn refuse_own_retry(validator: &mut RequestValidator<'_>, kind: &PbKind) {
    let (request_id, validate_only) = match kind {
        PbKind::Create(request) => (&request.request_id, request.validate_only),
        PbKind::Update(request) => (&request.request_id, request.validate_only),
        PbKind::Delete(request) => (&request.request_id, request.validate_only),
        PbKind::Complete(request) => (&request.request_id, request.validate_only),
        PbKind::Reopen(request) => (&request.request_id, request.validate_only),
        PbKind::Move(request) => (&request.request_id, request.validate_only),
    };
    if !request_id.is_empty() {
        validator.add("request_id", "belongs to the batch as a whole");
    }
    if validate_only {
        validator.add("validate_only", "belongs to the batch as a whole");
    }
}
