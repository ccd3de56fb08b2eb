//! The alarms of tasks in iCalendar (RFC 5545, section 3.6.6, and RFC 9074), which become reminders.

use jiff::{
    SignedDuration,
    civil::{DateTime, Time as CivilTime},
};
use prost_types::{Duration, Timestamp};
use taskey_proto::task::v1::{Reminder, Task, reminder::Time};

use super::{
    fit::{is_valid_reminder, relate_reminders},
    property::{Due, Property, due, duration, time, unescape},
};
use crate::{
    model::{field, reminder::MAX_REMINDERS},
    transfer::fields::instant,
};

/// The properties that say nothing about a reminder: those of alarms that Apple adds to all tasks.
const WITHOUT_CONTENT: [&str; 2] = ["X-APPLE-DEFAULT-ALARM", "X-APPLE-LOCAL-DEFAULT-ALARM"];

/// The texts of alarms that are the same for all tasks: those of Apple, Thunderbird and Tasks.org.
const TEXTS: [&str; 5] =
    ["", "Reminder", "Event reminder", "Default Mozilla Description", "Default Tasks.org description"];

/// A row, the name of a property, and why it is not imported.
pub(crate) type AlarmLoss = (u32, &'static str, &'static str);

/// The alarms of a task, and the dates to which they are relative.
#[derive(Default)]
pub(crate) struct Alarms {
    pub(crate) start: Option<Moment>,
    pub(crate) due: Option<Moment>,
    /// The alarm that has begun.
    current: Alarm,
    /// At most [`MAX_REMINDERS`].
    finished: Vec<Alarm>,
}

/// The start of a task, or when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In seconds since 1970.
    Instant(i64),
    /// The start of a date, or a time without a time zone.
    Civil(DateTime),
}

impl From<&Due> for Moment {
    fn from(due: &Due) -> Self {
        match due {
            Due::Date(date) => Self::Civil(date.to_datetime(CivilTime::midnight())),
            Due::Time(time, _) => Self::Instant(time.seconds),
            Due::FloatingTime(local) => Self::Civil(*local),
        }
    }
}

/// An alarm that is being read.
#[derive(Default)]
struct Alarm {
    row: u32,
    /// The row of `ACKNOWLEDGED`.
    acknowledge_row: u32,
    trigger: Option<Trigger>,
    /// Whether it is an alarm at a place, of an unknown kind, or none.
    is_excluded: bool,
    text: String,
    text_row: u32,
    /// The reminder, whose time follows from the trigger.
    reminder: Reminder,
}

enum Trigger {
    At(Timestamp),
    /// Seconds after the start or the due date.
    AfterStart(i64),
    AfterDue(i64),
}

impl Alarms {
    pub(crate) fn begin(&mut self, row: u32) {
        self.current = Alarm { row, ..Alarm::default() };
    }

    /// Sets a property of the current alarm. Returns a description of what is not imported.
    pub(crate) fn set(&mut self, row: u32, name: &str, property: &Property<'_>) -> Option<&'static str> {
        let alarm = &mut self.current;
        let value = property.value.trim();
        let set_time = |field: &mut Option<Timestamp>| {
            *field = time(property);
            field.is_none().then_some("is not a time in UTC, and is not imported")
        };
        match name {
            "ACTION" => return alarm.set_action(&value.to_ascii_uppercase()),
            "TRIGGER" => alarm.trigger = Trigger::parse(property),
            "UID" | "X-WR-ALARMUID" => return alarm.set_id(&unescape(value)),
            "DESCRIPTION" => (alarm.text_row, alarm.text) = (row, unescape(property.value)),
            "ACKNOWLEDGED" => {
                alarm.acknowledge_row = row;
                return set_time(&mut alarm.reminder.acknowledge_time);
            }
            "X-TASKEY-SNOOZE-TIME" => return set_time(&mut alarm.reminder.snooze_time),
            "X-TASKEY-FIRE-TIME" => return set_time(&mut alarm.reminder.fire_time),
            "X-TASKEY-LATE" => alarm.reminder.late = value == "TRUE",
            "PROXIMITY" | "X-APPLE-PROXIMITY" => {
                alarm.is_excluded = true;
                return Some("is an alarm at a place, which is not imported");
            }
            "REPEAT" if value == "0" => {}
            name if WITHOUT_CONTENT.contains(&name) => {}
            _ => return Some("is not imported"),
        }
        None
    }

    /// Ends the current alarm. Returns its row and a description if it is not imported.
    pub(crate) fn end(&mut self) -> Option<(u32, &'static str)> {
        let alarm = std::mem::take(&mut self.current);
        if alarm.is_excluded {
            return None;
        }
        if alarm.trigger.is_none() {
            return Some((alarm.row, "has no TRIGGER with a duration or a time, and is not imported"));
        }
        if self.finished.len() == MAX_REMINDERS {
            return Some((alarm.row, "is not imported, because a task has at most 5 reminders"));
        }
        self.finished.push(alarm);
        None
    }

    /// Sets the reminders of a task, whose other fields are set. Returns what is not imported.
    pub(crate) fn finish(self, task: &mut Task) -> Vec<AlarmLoss> {
        let Self { start, due, finished, .. } = self;
        let mut losses = Vec::new();
        let first_row = finished.first().map_or(0, |alarm| alarm.row);
        for mut alarm in finished {
            let row = alarm.row;
            if !TEXTS.contains(&&*alarm.text) && alarm.text != task.title {
                losses.push((alarm.text_row, "DESCRIPTION", "of the alarm is not imported"));
            }
            if !alarm.reminder.id.is_empty() && task.reminders.iter().any(|other| other.id == alarm.reminder.id) {
                alarm.reminder.id.clear();
                losses.push((row, "UID", "is that of another alarm; the reminder has a new id"));
            }
            alarm.reminder.time = alarm.trigger.and_then(|trigger| trigger.time(start, due, &task.time_zone));
            if !is_valid_reminder(&alarm.reminder) {
                losses.push((row, "TRIGGER", "is not within 366 days before the due date and a day after it"));
                continue;
            }
            if !settle(&mut alarm.reminder, due, &task.time_zone) {
                losses.push((alarm.acknowledge_row, "ACKNOWLEDGED", "is before the alarm, and is not imported"));
            }
            task.reminders.push(alarm.reminder);
        }
        // Recurring tasks of Taskey have a property for the basis.
        let is_foreign = task.recurrence.as_ref().is_some_and(|recurrence| recurrence.basis == 0);
        if is_foreign && !relate_reminders(task) {
            losses.push((first_row, "TRIGGER", "is a time; only the first occurrence has the reminder"));
        }
        losses
    }
}

impl Alarm {
    fn set_action(&mut self, action: &str) -> Option<&'static str> {
        match action {
            "DISPLAY" | "AUDIO" => None,
            "EMAIL" => Some("is EMAIL; the reminder sends no mail"),
            // Apple marks a task without an alarm like this.
            "NONE" => {
                self.is_excluded = true;
                None
            }
            _ => {
                self.is_excluded = true;
                Some("is not known; the alarm is not imported")
            }
        }
    }

    /// Sets the id, unless there is one: Apple writes it as two properties.
    fn set_id(&mut self, text: &str) -> Option<&'static str> {
        match field::id(text).map(|id| id.to_string()) {
            Ok(id) if self.reminder.id.is_empty() || self.reminder.id == id => {
                self.reminder.id = id;
                None
            }
            Ok(_) => Some("differs from the other id of the alarm, and is not imported"),
            Err(_) => Some("is not a UUID; the reminder has a new id"),
        }
    }
}

impl Trigger {
    fn parse(property: &Property<'_>) -> Option<Self> {
        let is_end = property.parameter("RELATED").is_some_and(|related| related.eq_ignore_ascii_case("END"));
        if let Some(seconds) = duration(property.value.trim()) {
            return Some(if is_end { Self::AfterDue(seconds) } else { Self::AfterStart(seconds) });
        }
        match due(property)? {
            Due::Time(time, _) => Some(Self::At(time)),
            Due::Date(_) | Due::FloatingTime(_) => None,
        }
    }

    /// Returns the time of the reminder. A trigger that is relative to the start of a task without a start is relative to the
    /// due date, and the reverse is invalid. Dates are relative to their start.
    fn time(self, start: Option<Moment>, due: Option<Moment>, zone: &str) -> Option<Time> {
        let (base, seconds) = match self {
            Self::At(time) => return Some(Time::RemindTime(time)),
            Self::AfterStart(seconds) => (start.or(due), seconds),
            Self::AfterDue(_) if due.is_none() && start.is_some() => return None,
            Self::AfterDue(seconds) => (due, seconds),
        };
        let before_due = match (base, due) {
            (None, _) => 0,
            (Some(base), None) => return Some(Time::RemindTime(base.after(seconds, zone)?)),
            (Some(Moment::Instant(base)), Some(Moment::Instant(due))) => due.checked_sub(base)?,
            (Some(Moment::Civil(base)), Some(Moment::Civil(due))) => {
                due.date().to_datetime(CivilTime::midnight()).duration_since(base).as_secs()
            }
            (Some(_), Some(_)) => return None,
        };
        Some(Time::BeforeDue(Duration { seconds: before_due.checked_sub(seconds)?, nanos: 0 }))
    }
}

impl Moment {
    /// Returns the instant these seconds later. A civil time is one of this time zone, or of UTC.
    fn after(self, seconds: i64, zone: &str) -> Option<Timestamp> {
        match self {
            Self::Instant(instant) => Some(Timestamp { seconds: instant.checked_add(seconds)?, nanos: 0 }),
            Self::Civil(local) => {
                let later = local.checked_add(SignedDuration::from_secs(seconds)).ok()?;
                instant(later, zone).or_else(|| instant(later, "UTC"))
            }
        }
    }

    /// Returns the start of its date, unless it is an instant.
    fn start_of_date(self) -> Self {
        match self {
            Self::Civil(local) => Self::Civil(local.date().to_datetime(CivilTime::midnight())),
            instant @ Self::Instant(_) => instant,
        }
    }
}

/// Lets an acknowledged reminder have fired, because other products do not write when it did. One that was acknowledged before
/// its time fires again (RFC 9074, section 6). Returns whether nothing is lost.
fn settle(reminder: &mut Reminder, due: Option<Moment>, zone: &str) -> bool {
    let (None, Some(acknowledge_time)) = (reminder.fire_time, reminder.acknowledge_time) else { return true };
    let fires = match reminder.time {
        Some(Time::RemindTime(time)) => Some(time),
        Some(Time::BeforeDue(before)) => due.and_then(|due| due.start_of_date().after(-before.seconds, zone)),
        None => None,
    };
    if fires.is_some_and(|fires| fires.seconds > acknowledge_time.seconds) {
        reminder.acknowledge_time = None;
        return false;
    }
    reminder.fire_time = Some(acknowledge_time);
    true
}
