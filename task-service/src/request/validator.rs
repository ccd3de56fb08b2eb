//! Collects the invalid fields of writes.

use std::fmt::Display;

use service_kit::status::Violations;
use taskey_proto::task::v1::{Recurrence, Reminder};

use super::{recurrence, reminder};
use crate::model::{
    Target, field,
    recurrence::{RecurrenceUpdate, SearchBudget},
    reminder::NewReminder,
};

/// The fields of the recurrence, which an update can change one by one.
pub(super) const RECURRENCE_FIELDS: [&str; 3] = ["recurrence.rrule", "recurrence.basis", "recurrence.catch_up"];

/// Adds the violations of a write to those of the request. Their paths begin with `prefix`, which is empty outside of a
/// batch.
pub(crate) struct RequestValidator<'a> {
    pub(crate) violations: &'a mut Violations,
    pub(crate) prefix: &'a str,
    /// What the searches for occurrences may still examine.
    pub(crate) searches: &'a mut SearchBudget,
}

impl RequestValidator<'_> {
    pub(super) fn check<T, E: Display>(&mut self, path: &str, value: Result<T, E>) -> Option<T> {
        self.violations.check(format!("{}{path}", self.prefix), value)
    }

    pub(crate) fn add(&mut self, path: &str, description: &str) {
        self.violations.add(format!("{}{path}", self.prefix), description);
    }

    /// Parses the fields of a recurrence that are set.
    pub(super) fn recurrence(&mut self, message: &Recurrence, is_set: impl Fn(&str) -> bool) -> RecurrenceUpdate {
        let Recurrence { rrule, basis, catch_up } = message;
        let [rrule_path, basis_path, catch_up_path] = RECURRENCE_FIELDS;
        let path = |field: &str| is_set(field).then(|| format!("task.{field}"));
        RecurrenceUpdate {
            rule: path(rrule_path).and_then(|path| self.check(&path, recurrence::rule(rrule))),
            basis: path(basis_path).and_then(|path| self.check(&path, recurrence::basis(*basis))),
            catch_up: path(catch_up_path).and_then(|path| self.check(&path, recurrence::catch_up(*catch_up))),
        }
    }

    pub(super) fn reminders(&mut self, reminders: &[Reminder]) -> Option<Vec<NewReminder>> {
        reminder::parse(&format!("{}task.reminders", self.prefix), reminders, self.violations)
    }

    pub(crate) fn target(&mut self, path: &str, id: &str, etag: &str) -> Option<Target> {
        let id = self.check(path, field::id(id))?;
        Some(Target::new(id, etag))
    }

    /// Adds the violations of a request that sets both the due date and the due time.
    pub(super) fn add_both_due(&mut self) {
        self.add("task.due_date", "must not be set together with the due time");
        self.add("task.due_time", "must not be set together with the due date");
    }
}
