//! Updates fields of tasks, and of the series of recurring ones.

use service_kit::update_mask::CANNOT_BE_CHANGED;
use uuid::Uuid;

use super::{
    WorkingSet,
    error::{WriteError, invalid_field},
    occurrences,
};
use crate::model::{
    TaskRow,
    recurrence::{Originals, SearchBudget, missing_slot},
    reminder,
    write::{Change, TaskUpdate, UpdateScope},
};

impl WorkingSet {
    pub(super) fn update(&mut self, update: TaskUpdate, new_id: Uuid) -> Result<Uuid, WriteError> {
        let task = self.active_task(update.target)?;
        if let Some(path) = update.repeated.first_difference(task) {
            return Err(invalid_field(path, CANNOT_BE_CHANGED));
        }
        let reminders = update.reminders.as_deref().unwrap_or_default();
        if let Some((index, field)) = reminder::first_changed_output(&task.reminders, reminders) {
            return Err(invalid_field(format!("task.reminders[{index}].{field}"), CANNOT_BE_CHANGED));
        }
        let id = task.id;
        if update.has_changes() {
            let mut searches = self.searches.clone();
            let has_next = task.occurrence().is_some_and(|occurrence| self.active_next(&occurrence).is_some());
            let recurrence = updated_recurrence(task, &update, new_id, has_next, &mut searches)?;
            self.searches = searches;
            self.change(id, |task| {
                apply_update(task, update, new_id);
                task.recurrence = recurrence;
            });
        }
        Ok(id)
    }
}

/// Applies an update to a task, except to its recurrence.
fn apply_update(task: &mut TaskRow, update: TaskUpdate, new_id: Uuid) {
    if let Some(title) = update.title {
        task.title = title.into_text();
    }
    if let Some(notes) = update.notes {
        task.notes = notes.into_text();
    }
    if let Some(priority) = update.priority {
        task.priority = priority.into();
    }
    match update.due_date {
        Change::Keep => {}
        Change::Clear => task.due_date = None,
        Change::Set(date) => task.due_date = Some(date.to_string()),
    }
    match update.due_time {
        Change::Keep => {}
        Change::Clear => task.due_time = None,
        Change::Set(time) => task.due_time = Some(time),
    }
    if let Some(time_zone) = update.time_zone {
        task.time_zone = time_zone;
    }
    if let Some(labels) = update.labels {
        task.labels = labels.to_stored();
    }
    if let Some(reminders) = update.reminders {
        task.reminders = reminder::replace(&task.reminders, &reminders, new_id, false);
    }
}

/// Returns the stored recurrence of a task after an update. A new series has the id `series_id`. `has_next` says whether the
/// next occurrence exists; a task whose next occurrence was deleted can leave its series, which ends there.
fn updated_recurrence(
    before: &TaskRow,
    update: &TaskUpdate,
    series_id: Uuid,
    has_next: bool,
    searches: &mut SearchBudget,
) -> Result<Option<String>, WriteError> {
    let occurrence = before.occurrence();
    let late = || {
        let text = "must not change after the next occurrence was created; change the recurrence of that task";
        invalid_field("task.recurrence", text)
    };
    let of_one = || {
        let text = "must not be SCOPE_THIS if recurrence is updated, which also applies to the following occurrences";
        invalid_field("scope", text)
    };
    let recurrence = match (&update.recurrence, &before.recurrence) {
        (Change::Clear, Some(_)) if update.scope == UpdateScope::This => return Err(of_one()),
        (Change::Clear, Some(_)) if has_next => return Err(late()),
        (Change::Clear, _) | (Change::Keep, None) => return Ok(None),
        (Change::Set(recurrence), _) => Some(recurrence),
        (Change::Keep, Some(_)) => None,
    };
    let mut after = before.clone();
    apply_update(&mut after, update.clone(), series_id);
    let current = occurrence.as_ref().map(|occurrence| &occurrence.schedule.recurrence);
    let changed = match recurrence.map(|recurrence| recurrence.apply(current)) {
        Some(None) => return Err(invalid_rule("must be set")),
        Some(Some(recurrence)) => Some(recurrence).filter(|recurrence| Some(recurrence) != current),
        None => None,
    };
    if changed.is_some() && update.scope == UpdateScope::This {
        return Err(of_one());
    }
    let occurrence = match occurrence {
        Some(occurrence) if occurrence.next_task_id.is_some() => match changed {
            None if update.scope == UpdateScope::Following => return Err(no_following()),
            None => return Ok(before.recurrence.clone()),
            Some(_) if has_next => return Err(late()),
            Some(_) => None,
        },
        occurrence => occurrence,
    };
    let slot = after.slot().ok_or_else(|| invalid_field("task.recurrence", missing_slot(after.due_time)))?;
    let moves_due = (&before.due_date, before.due_time) != (&after.due_date, after.due_time);
    let Some(mut occurrence) = occurrence else {
        let Some(recurrence) = changed else { return Ok(None) };
        recurrence.check(slot, &after.time_zone, searches).map_err(invalid_rule)?;
        return Ok(occurrences::first(&after, recurrence, series_id));
    };
    // This occurrence may have another time zone than the series.
    let zone_before = occurrences::series_zone(before, &occurrence).to_owned();
    record_originals(&mut occurrence.schedule.originals, before, update);
    let zone = occurrences::series_zone(&after, &occurrence).to_owned();
    occurrence = occurrence.move_to_zone(&zone_before, &zone);
    let recurrence = changed.unwrap_or_else(|| occurrence.schedule.recurrence.clone());
    let changes_rule = recurrence.rule != occurrence.schedule.recurrence.rule;
    if changes_rule || (moves_due && update.scope == UpdateScope::Following) {
        let slot = after.slot_in(&zone).unwrap_or(slot);
        recurrence.check(slot, &zone, searches).map_err(invalid_rule)?;
        occurrence = occurrence.restart(slot);
    }
    occurrence.schedule.recurrence = recurrence;
    Ok(Some(occurrence.to_stored()))
}

/// Keeps the values that an update replaces for this occurrence only.
fn record_originals(originals: &mut Originals, before: &TaskRow, update: &TaskUpdate) {
    fn record<T>(original: &mut Option<T>, is_updated: bool, scope: UpdateScope, before: impl FnOnce() -> T) {
        match scope {
            _ if !is_updated => {}
            UpdateScope::This => *original = original.take().or_else(|| Some(before())),
            UpdateScope::Unspecified | UpdateScope::Following => *original = None,
        }
    }
    let Originals { title, notes, priority, time_zone, labels, reminders } = originals;
    record(title, update.title.is_some(), update.scope, || before.title.clone());
    record(notes, update.notes.is_some(), update.scope, || before.notes.clone());
    record(priority, update.priority.is_some(), update.scope, || before.priority);
    record(time_zone, update.time_zone.is_some(), update.scope, || before.time_zone.clone());
    record(labels, update.labels.is_some(), update.scope, || before.labels.clone());
    record(reminders, update.reminders.is_some(), update.scope, || reminder::renew(&before.reminders));
}

fn no_following() -> WriteError {
    let text = "must not be SCOPE_FOLLOWING after the next occurrence was created; update the open occurrence instead";
    invalid_field("scope", text)
}

fn invalid_rule(description: &'static str) -> WriteError {
    invalid_field("task.recurrence.rrule", description)
}
