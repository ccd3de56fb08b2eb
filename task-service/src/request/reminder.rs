//! Parses reminders.

use service_kit::status::Violations;
use taskey_proto::task::v1::{Reminder, reminder::Time};
use uuid::Uuid;

use crate::model::{
    field::{self, FieldError},
    reminder::{self as model, MAX_REMINDERS, NewReminder, Schedule},
};

/// The bounds of `Reminder.before_due` in seconds: less than a day after the task is due, and 366 days before.
const MIN_BEFORE_DUE: i64 = -86_399;
const MAX_BEFORE_DUE: i64 = 366 * 24 * 3600;

/// Parses the reminders of a task at this path. The fields that the server sets are used by imports, and compared with the
/// current ones in updates; otherwise, they are ignored (AIP-203).
pub(crate) fn parse(path: &str, reminders: &[Reminder], violations: &mut Violations) -> Option<Vec<NewReminder>> {
    if reminders.len() > MAX_REMINDERS {
        violations.add(path, "must be at most 5 reminders");
        return None;
    }
    let mut parsed: Vec<NewReminder> = Vec::with_capacity(reminders.len());
    for (index, reminder) in reminders.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let id = violations.check(format!("{path}.id"), field::optional_id(&reminder.id));
        let schedule = schedule(&path, reminder.time.as_ref(), violations);
        if id.flatten().is_some_and(|id| parsed.iter().any(|earlier| earlier.id == Some(id))) {
            violations.add(format!("{path}.id"), "must not be the id of another reminder");
        }
        if let (Some(id), Some(schedule)) = (id, schedule) {
            parsed.push(NewReminder { id, schedule, imported: imported(reminder, schedule) });
        }
    }
    // The violations of the others prevent the write from being executed.
    (parsed.len() == reminders.len()).then_some(parsed)
}

/// Returns the reminder with the fields that the server sets.
fn imported(reminder: &Reminder, schedule: Schedule) -> model::Reminder {
    model::Reminder {
        id: Uuid::nil(),
        schedule,
        snooze_time: reminder.snooze_time.map(Into::into),
        fire_time: reminder.fire_time.map(Into::into),
        is_late: reminder.late,
        acknowledge_time: reminder.acknowledge_time.map(Into::into),
    }
}

fn schedule(path: &str, time: Option<&Time>, violations: &mut Violations) -> Option<Schedule> {
    match time {
        Some(Time::RemindTime(time)) => {
            let time = violations.check(format!("{path}.remind_time"), field::due_time(Some(*time)))?;
            time.map(Schedule::At)
        }
        Some(Time::BeforeDue(before)) => {
            violations.check(format!("{path}.before_due"), before_due(*before)).map(Schedule::BeforeDue)
        }
        None => {
            violations.add(path, "must have a remind_time, or before_due");
            None
        }
    }
}

fn before_due(before: prost_types::Duration) -> Result<i64, FieldError> {
    if before.nanos != 0 {
        return Err("must not have fractions of a second");
    }
    let is_valid = (MIN_BEFORE_DUE..=MAX_BEFORE_DUE).contains(&before.seconds);
    if is_valid { Ok(before.seconds) } else { Err("must be from -86399 to 31622400 seconds") }
}
