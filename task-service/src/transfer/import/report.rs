//! What an import reports about the rows of a file.

use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{ImportTasksResponse, import_tasks_response::Issue as PbIssue},
};
use tonic::Code;

use super::{entry::Issue, sink::ReadError};

/// Maximum number of issues and of errors that are described. The others are counted. Some clients accept only 8 KiB of
/// metadata, which contain the errors.
const MAX_ISSUES: usize = 100;
const MAX_ERRORS: usize = 25;

/// What was found in a file.
#[derive(Debug, Default)]
pub(crate) struct Report {
    losses: Findings,
    errors: Findings,
}

#[derive(Debug, Default)]
struct Findings {
    described: Vec<Issue>,
    count: usize,
}

impl Findings {
    fn add(&mut self, issue: Issue, max_described: usize) {
        self.count += 1;
        if self.described.len() < max_described {
            self.described.push(issue);
        }
    }
}

impl Report {
    /// Adds what is not imported.
    pub(crate) fn add_loss(&mut self, issue: Issue) {
        self.losses.add(issue, MAX_ISSUES);
    }

    /// Adds why the file cannot be imported.
    pub(crate) fn add_error(&mut self, issue: Issue) {
        self.errors.add(issue, MAX_ERRORS);
    }

    /// Fails if the file cannot be imported.
    ///
    /// # Errors
    /// IMPORT_INVALID with the invalid rows and fields.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.errors.count == 0 {
            return Ok(());
        }
        Err(invalid(&self.errors.described, self.errors.count))
    }

    /// Fails if there are more errors than are described, so that the rest of the file need not be read.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_early(&self) -> Result<(), ApiError> {
        let Findings { described, count } = &self.errors;
        if *count <= MAX_ERRORS {
            return Ok(());
        }
        Err(with_fields(format!("the file has at least {count} errors; the rest of it was not read"), described))
    }

    /// Returns the response, which has no counts of tasks and lists yet.
    pub(crate) fn into_response(self) -> ImportTasksResponse {
        let issues = self.losses.described.into_iter().map(|issue| PbIssue {
            row: i32::try_from(issue.row).unwrap_or(i32::MAX),
            field: issue.field,
            description: issue.description,
        });
        ImportTasksResponse { issues: issues.collect(), issue_count: count(self.losses.count), ..Default::default() }
    }
}

/// Returns a count in a response.
pub(crate) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn invalid(issues: &[Issue], count: usize) -> ApiError {
    let message = match issues {
        [Issue { row, field, description }] => format!("row {row}: {field} {description}").replace(":  ", ": "),
        _ => format!("the file has {count} errors"),
    };
    with_fields(message, issues)
}

/// Returns an error with the invalid rows and fields.
fn with_fields(message: String, issues: &[Issue]) -> ApiError {
    let error = ApiError::new(Code::InvalidArgument, ErrorReason::ImportInvalid, message);
    issues.iter().fold(error, |error, Issue { row, field, description }| {
        let separator = if field.is_empty() { "" } else { "." };
        error.field(format!("rows[{row}]{separator}{field}"), description.as_str())
    })
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Invalid(issue) => invalid(&[issue], 1),
            error => Self::internal(error),
        }
    }
}
