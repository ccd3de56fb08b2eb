//! Parses messages into types that cannot be invalid, so that the store and the model need not check them again.

use service_kit::{
    page,
    status::{ApiError, Violations},
};
use taskey_proto::task::v1::{FileFormat, ListTaskHistoryRequest, ListTasksRequest};

use crate::{
    error::{filter_invalid, order_by_invalid},
    model::{
        ListQuery, Target,
        field::{self, FieldError},
        file::ExportFormat,
        filter::Filter,
        history::HistoryQuery,
        order::OrderBy,
    },
};

pub(crate) mod batch;
pub(crate) mod list;
pub(crate) mod options;
pub(crate) mod recurrence;
pub(crate) mod reminder;
pub(crate) mod update;
pub(crate) mod validator;
pub(crate) mod webhook;
pub(crate) mod write;

const MISSING: FieldError = "must be set";

/// Parses the parameters of `ListTasks`.
///
/// # Errors
/// VALIDATION_FAILED, FILTER_INVALID, or ORDER_BY_INVALID.
pub(crate) fn list_query(request: ListTasksRequest) -> Result<ListQuery, ApiError> {
    let page_size = page_size(request.page_size)?;
    let filter = Filter::parse(&request.filter).map_err(|error| filter_invalid("filter", &error.to_string()))?;
    let order = OrderBy::parse(&request.order_by).map_err(|error| order_by_invalid(&error))?;
    let ListTasksRequest { page_token, show_deleted, .. } = request;
    Ok(ListQuery { page_size, page_token, show_deleted, filter, order })
}

/// Parses the format of an export.
///
/// # Errors
/// VALIDATION_FAILED if it is not set, or only a format of imports.
pub(crate) fn export_format(format: FileFormat) -> Result<ExportFormat, ApiError> {
    let mut violations = Violations::default();
    let format = violations.check("format", ExportFormat::try_from(format));
    violations.finish(format)
}

/// Parses the parameters of `ListTaskHistory`.
///
/// # Errors
/// VALIDATION_FAILED if the id is not a UUID or the page size is negative.
pub(crate) fn history_query(request: ListTaskHistoryRequest) -> Result<HistoryQuery, ApiError> {
    let mut violations = Violations::default();
    let task_id = violations.check("id", field::id(&request.id));
    let page_size = violations.check("page_size", page::size(request.page_size));
    let page_token = request.page_token;
    let query = task_id.zip(page_size).map(|(task_id, page_size)| HistoryQuery { task_id, page_size, page_token });
    violations.finish(query)
}

/// Parses the size of a page.
///
/// # Errors
/// VALIDATION_FAILED if it is negative.
pub(crate) fn page_size(size: i32) -> Result<usize, ApiError> {
    let mut violations = Violations::default();
    let size = violations.check("page_size", page::size(size));
    violations.finish(size)
}

/// Parses an id and an etag. `path` is the path of the id in the request.
///
/// # Errors
/// VALIDATION_FAILED if the id is not a UUID.
pub(crate) fn target(path: &str, id: &str, etag: &str) -> Result<Target, ApiError> {
    let mut violations = Violations::default();
    let id = violations.check(path, field::id(id));
    violations.finish(id.map(|id| Target::new(id, etag)))
}
