//! Checks the fields of tasks in files as those of requests.

use service_kit::status::Violations;
use taskey_proto::task::v1::{CreateTaskRequest, Task};

use crate::{
    model::{
        field::{self, MAX_SOURCE_ID_CHARS},
        recurrence::{SearchBudget, SeriesState},
        write::Write,
    },
    request::{validator::RequestValidator, write::create_in_series},
};

/// Parses the fields of a task that clients can set.
pub(crate) fn parse(
    task: Task,
    series: Option<&SeriesState>,
    violations: &mut Violations,
    searches: &mut SearchBudget,
) -> Option<Write> {
    let task = Task { list_id: String::new(), parent_id: String::new(), ..task };
    let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    create_in_series(request, series, &mut RequestValidator { violations, prefix: "", searches })
}

/// Returns the invalid fields of a task.
pub(crate) fn violations(
    task: &Task,
    series: Option<&SeriesState>,
    searches: &mut SearchBudget,
) -> Vec<(String, String)> {
    let mut violations = Violations::default();
    parse(task.clone(), series, &mut violations, searches);
    violations.check("create_time", field::due_time(task.create_time));
    violations.check("complete_time", field::due_time(task.complete_time));
    if task.source_id.chars().nth(MAX_SOURCE_ID_CHARS).is_some() || task.source_id.contains(char::is_control) {
        violations.add("source_id", "must be at most 255 characters long, without control characters");
    }
    violations.into_pairs().map(|(field, text)| (field.trim_start_matches("task.").to_owned(), text)).collect()
}
