//! The reminders of a task: when they fire, and the text that the database stores.

use std::time::Duration;

use jiff::{SignedDuration, civil::Date, tz::TimeZone};
use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::TaskRow;

/// Maximum number of reminders of a task.
pub(crate) const MAX_REMINDERS: usize = 5;

/// Reminders that fire later than this are marked as late.
const LATE_AFTER: Duration = Duration::from_secs(60);

/// When a reminder fires, unless it is snoozed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    At(Timestamp),
    /// These seconds before the task is due.
    BeforeDue(i64),
}

/// A reminder of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reminder {
    pub(crate) id: Uuid,
    pub(crate) schedule: Schedule,
    pub(crate) snooze_time: Option<Timestamp>,
    pub(crate) fire_time: Option<Timestamp>,
    pub(crate) is_late: bool,
    /// Set only if it has fired.
    pub(crate) acknowledge_time: Option<Timestamp>,
}

/// A reminder in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewReminder {
    /// The id of an existing reminder of the task, or one that the client has chosen.
    pub(crate) id: Option<Uuid>,
    pub(crate) schedule: Schedule,
    /// The output-only fields. Only imports set them; in updates, they repeat the current values.
    pub(crate) imported: Reminder,
}

/// When a task is due, as far as its reminders depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    date: Option<Date>,
    time: Option<Timestamp>,
    time_zone: String,
}

impl Due {
    pub(crate) fn new(date: Option<&str>, time: Option<Timestamp>, time_zone: &str) -> Self {
        Self { date: date.and_then(|date| date.parse().ok()), time, time_zone: time_zone.to_owned() }
    }

    /// Returns when a task is due, if it has reminders.
    pub(crate) fn for_reminders(task: &TaskRow) -> Option<Self> {
        let due = || Self::new(task.due_date.as_deref(), task.due_time, &task.time_zone);
        (!task.reminders.is_empty()).then(due)
    }

    /// Returns the instant these seconds before the due time, or before the start of the due date in civil time: a time
    /// that a clock change skips moves later by the length of the gap, and of a time that is repeated, the first one counts.
    fn before(&self, seconds: i64) -> Option<Timestamp> {
        let Some(date) = self.date else {
            return Some(Timestamp::from_micros(self.time?.as_micros() - seconds * 1_000_000));
        };
        let zone = jiff::tz::db().get(&self.time_zone).unwrap_or(TimeZone::UTC);
        let civil = date.at(0, 0, 0, 0).checked_sub(SignedDuration::from_secs(seconds)).ok()?;
        let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
        Some(Timestamp::from_micros(instant.as_microsecond()))
    }
}

impl Reminder {
    fn new(id: Uuid, schedule: Schedule) -> Self {
        Self { id, schedule, snooze_time: None, fire_time: None, is_late: false, acknowledge_time: None }
    }

    /// Returns the time of its schedule, if there is one.
    fn scheduled_time(&self, due: &Due) -> Option<Timestamp> {
        match self.schedule {
            Schedule::At(time) => Some(time),
            Schedule::BeforeDue(seconds) => due.before(seconds),
        }
    }

    /// Returns when it fires, unless it has fired.
    fn next_time(&self, due: &Due) -> Option<Timestamp> {
        let time = self.snooze_time.or_else(|| self.scheduled_time(due));
        time.filter(|_| self.fire_time.is_none())
    }

    /// Lets it fire at another time.
    pub(crate) fn snooze(&mut self, time: Timestamp) {
        *self = Self { snooze_time: Some(time), ..Self::new(self.id, self.schedule) };
    }

    /// Follows a change of the due date. One that has fired fires again only if its new time is in the future.
    fn follow(&mut self, before: &Due, after: &Due, now: Timestamp) {
        let new_time = self.scheduled_time(after);
        if self.scheduled_time(before) == new_time {
            return;
        }
        self.snooze_time = None;
        if new_time.is_some_and(|time| time > now) {
            *self = Self::new(self.id, self.schedule);
        }
    }

    /// Parses a line of the stored text.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let schedule = fields.next()?;
        let number = |text: &str| text.parse().ok();
        let schedule = match schedule.split_at_checked(1)? {
            ("@", micros) => Schedule::At(Timestamp::from_micros(number(micros)?)),
            ("<", seconds) => Schedule::BeforeDue(number(seconds)?),
            _ => return None,
        };
        let mut time = || fields.next().and_then(number).map(Timestamp::from_micros);
        let (snooze_time, fire_time, acknowledge_time) = (time(), time(), time());
        Some(Self { id, schedule, snooze_time, fire_time, is_late: fields.next() == Some("late"), acknowledge_time })
    }

    /// Returns the line of the stored text.
    fn to_line(self) -> String {
        let schedule = match self.schedule {
            Schedule::At(time) => format!("@{}", time.as_micros()),
            Schedule::BeforeDue(seconds) => format!("<{seconds}"),
        };
        let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.as_micros().to_string());
        let late = if self.is_late { " late" } else { "" };
        let [snooze, fire, acknowledge] = [self.snooze_time, self.fire_time, self.acknowledge_time].map(time);
        format!("{} {schedule} {snooze} {fire} {acknowledge}{late}\n", self.id)
    }
}

/// Returns the reminders of a stored text.
pub(crate) fn parse(stored: &str) -> impl Iterator<Item = Reminder> {
    stored.lines().filter_map(Reminder::parse)
}

/// Returns the stored text of reminders, which is empty if there are none.
pub(crate) fn to_stored(reminders: &[Reminder]) -> String {
    reminders.iter().copied().map(Reminder::to_line).collect()
}

/// Returns the stored text after a request has replaced the reminders. Those that keep their id and their schedule keep
/// their state. `new_id` is unique, and new reminders have the ids after it. Imported reminders have a state already.
pub(crate) fn replace(stored: &str, wanted: &[NewReminder], new_id: Uuid, is_import: bool) -> String {
    let existing: Vec<_> = parse(stored).collect();
    let reminders = wanted.iter().zip(1..).map(|(wanted, number)| {
        let id = wanted.id.unwrap_or_else(|| Uuid::from_u128(new_id.as_u128().wrapping_add(number)));
        if is_import {
            return Reminder { id, ..wanted.imported };
        }
        let kept = existing.iter().find(|reminder| (reminder.id, reminder.schedule) == (id, wanted.schedule));
        kept.copied().unwrap_or_else(|| Reminder::new(id, wanted.schedule))
    });
    to_stored(&reminders.collect::<Vec<_>>())
}

/// Returns the index of the first reminder of an update that has an output-only field with another value than the current
/// one, and the name of that field. An update can leave these fields out.
pub(crate) fn first_changed_output(stored: &str, wanted: &[NewReminder]) -> Option<(usize, &'static str)> {
    type Output = (&'static str, fn(&Reminder) -> Option<Timestamp>);
    let times: [Output; 3] = [
        ("snooze_time", |reminder| reminder.snooze_time),
        ("fire_time", |reminder| reminder.fire_time),
        ("acknowledge_time", |reminder| reminder.acknowledge_time),
    ];
    let existing: Vec<_> = parse(stored).collect();
    wanted.iter().enumerate().find_map(|(index, wanted)| {
        let current = existing.iter().find(|reminder| Some(reminder.id) == wanted.id);
        let sent = &wanted.imported;
        let is_changed = |(_, time): &&Output| time(sent).is_some() && time(sent) != current.and_then(time);
        let changed_time = times.iter().find(is_changed).map(|(name, _)| *name);
        let is_late_changed = sent.is_late && !current.is_some_and(|current| current.is_late);
        changed_time.or(is_late_changed.then_some("late")).map(|name| (index, name))
    })
}

/// Returns the stored text of the reminders of the next occurrence of a task: the relative ones, which have not fired.
pub(crate) fn renew(stored: &str) -> String {
    let relative = parse(stored).filter(|reminder| matches!(reminder.schedule, Schedule::BeforeDue(_)));
    to_stored(&relative.map(|reminder| Reminder::new(reminder.id, reminder.schedule)).collect::<Vec<_>>())
}

/// Computes when the next reminder of a task fires. Called after every change of a task; `before` is when it was due, if it had
/// reminders.
pub(crate) fn reschedule(task: &mut TaskRow, before: Option<&Due>, now: Timestamp) {
    let Some(due) = Due::for_reminders(task) else {
        task.next_reminder = None;
        return;
    };
    let mut reminders: Vec<_> = parse(&task.reminders).collect();
    if let Some(before) = before.filter(|before| **before != due) {
        for reminder in &mut reminders {
            reminder.follow(before, &due, now);
        }
        task.reminders = to_stored(&reminders);
    }
    task.next_reminder = next_time(&reminders, &due);
}

fn next_time(reminders: &[Reminder], due: &Due) -> Option<Timestamp> {
    reminders.iter().filter_map(|reminder| reminder.next_time(due)).min()
}

/// The reminders of a task after those that were due have fired.
#[derive(Debug)]
pub(crate) struct Firing {
    /// The stored text.
    pub(crate) reminders: String,
    pub(crate) next: Option<Timestamp>,
    /// The number of those that have fired in time, and of those that were late.
    pub(crate) on_time: u64,
    pub(crate) late: u64,
}

/// Fires the reminders of a task that are due.
pub(crate) fn fire(stored: &str, due: &Due, now: Timestamp) -> Firing {
    let (mut on_time, mut late) = (0, 0);
    let mut reminders: Vec<_> = parse(stored).collect();
    for reminder in &mut reminders {
        let Some(time) = reminder.next_time(due).filter(|time| *time <= now) else { continue };
        let is_late = now.since(time) > LATE_AFTER;
        *(if is_late { &mut late } else { &mut on_time }) += 1;
        *reminder = Reminder { fire_time: Some(now), is_late, ..Reminder::new(reminder.id, reminder.schedule) };
    }
    Firing { reminders: to_stored(&reminders), next: next_time(&reminders, due), on_time, late }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().expect("a time").as_microsecond())
    }

    /// Returns when a reminder these hours and minutes before the due date fires.
    fn before(date: &str, zone: &str, (hours, minutes): (i64, i64)) -> String {
        let time = Due::new(Some(date), None, zone).before(hours * 3600 + minutes * 60).expect("a time");
        jiff::Timestamp::from_microsecond(time.as_micros()).expect("a valid time").to_string()
    }

    #[test]
    fn a_reminder_is_relative_to_the_start_of_the_due_date_in_its_time_zone() {
        assert_eq!(before("2026-11-30", "", (15, 0)), "2026-11-29T09:00:00Z");
        assert_eq!(before("2026-11-30", "America/New_York", (15, 0)), "2026-11-29T14:00:00Z");
        assert_eq!(before("2026-11-30", "Pacific/Auckland", (-9, 0)), "2026-11-29T20:00:00Z");
    }

    #[test]
    fn a_skipped_hour_moves_the_reminder_later_and_a_repeated_one_fires_first() {
        // Berlin skipped 02:00 to 03:00 on the 29th, which therefore had 23 hours.
        assert_eq!(before("2026-03-30", "Europe/Berlin", (21, 30)), "2026-03-29T01:30:00Z");
        assert_eq!(before("2026-03-30", "Europe/Berlin", (15, 0)), "2026-03-29T07:00:00Z");
        assert_eq!(before("2026-10-26", "Europe/Berlin", (21, 30)), "2026-10-25T00:30:00Z");
        // Beirut skipped the first hour of the day.
        assert_eq!(before("2017-03-26", "Asia/Beirut", (0, 0)), "2017-03-25T22:00:00Z");
    }

    #[test]
    fn a_due_time_is_an_instant() {
        let due = Due::new(None, Some(at("2026-03-29T12:00:00Z")), "Europe/Berlin");
        assert_eq!(due.before(24 * 3600), Some(at("2026-03-28T12:00:00Z")));
        assert_eq!(Due::new(None, None, "").before(0), None);
    }

    #[test]
    fn stored_reminders_are_parsed_to_the_same_reminders() {
        let time = Some(at("2026-11-30T08:00:00.123456Z"));
        let absolute = Reminder::new(Uuid::from_u128(1), Schedule::At(at("0001-01-01T00:00:00Z")));
        let fired = Reminder { fire_time: time, is_late: true, acknowledge_time: time, ..absolute };
        let relative = Reminder::new(Uuid::from_u128(2), Schedule::BeforeDue(-86_399));
        let snoozed = Reminder { snooze_time: time, ..relative };
        let reminders = [absolute, fired, relative, snoozed];
        assert_eq!(parse(&to_stored(&reminders)).collect::<Vec<_>>(), reminders);
        assert_eq!(parse("").count(), 0);
    }

    #[test]
    fn a_reminder_is_late_after_a_minute() {
        let time = at("2026-11-30T08:00:00Z");
        let stored = to_stored(&[Reminder::new(Uuid::from_u128(1), Schedule::At(time))]);
        let due = Due::new(None, None, "");
        for (delay, expected) in [(0, (1, 0)), (60, (1, 0)), (61, (0, 1))] {
            let firing = fire(&stored, &due, time + Duration::from_secs(delay));
            assert_eq!((firing.on_time, firing.late), expected, "{delay}");
            assert_eq!(firing.next, None);
        }
        let early = fire(&stored, &due, time - Duration::from_micros(1));
        assert_eq!((early.on_time, early.late, early.next, early.reminders), (0, 0, Some(time), stored));
    }
}
