//! Updates of tasks and occurrences of tasks that recur, in the model.

use jiff::{
    ToSpan,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use taskey_proto::task::v1::{
    Recurrence,
    recurrence::{Basis, CatchUp},
    update_task_request::Scope,
};

use super::{
    call::{Fields, Mask, Number},
    model::{Model, Reason, Task},
};

/// A rule with an occurrence every few days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) text: &'static str,
    days: i64,
    count: i64,
}

/// The last one is not valid.
pub(super) const RULES: [Rule; 4] = [
    Rule { text: "FREQ=DAILY;INTERVAL=3", days: 3, count: i64::MAX },
    Rule { text: "FREQ=WEEKLY", days: 7, count: i64::MAX },
    Rule { text: "FREQ=DAILY;COUNT=3", days: 1, count: 3 },
    Rule { text: "FREQ=SECONDLY", days: 0, count: 0 },
];

impl Rule {
    pub(super) fn is_valid(self) -> bool {
        self.days > 0
    }
}

/// A day, or a time in the time zone of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Date(Date),
    Time(DateTime),
}

impl Slot {
    fn plus_days(self, days: i64) -> Self {
        match self {
            Self::Date(date) => Self::Date(date + days.days()),
            Self::Time(time) => Self::Time(time + days.days()),
        }
    }

    /// Reports whether the slot is after another one and, at this time, not overdue.
    fn follows(self, other: Self, now: jiff::Timestamp, zone: &TimeZone) -> bool {
        match (self, other) {
            (Self::Date(date), Self::Date(other)) => date > other && date >= zone.to_datetime(now).date(),
            (Self::Time(time), Self::Time(other)) => time > other && zone.to_timestamp(time).expect("a time") > now,
            _ => unreachable!("the slots of a series are alike"),
        }
    }
}

/// The occurrence of a series that a task is.
#[derive(Clone, Debug)]
pub(super) struct Series {
    rule: Rule,
    anchor: Slot,
    slot: Slot,
    pub(super) next: Option<Number>,
    /// The values of fields that were changed for this occurrence only.
    originals: Originals,
}

#[derive(Clone, Debug, Default)]
struct Originals {
    title: Option<&'static str>,
    notes: Option<&'static str>,
    priority: Option<i32>,
    zone: Option<&'static str>,
    labels: Option<Vec<&'static str>>,
}

impl Series {
    pub(super) fn new(rule: Rule, slot: Slot) -> Self {
        Self { rule, anchor: slot, slot, next: None, originals: Originals::default() }
    }

    /// Returns the recurrence of the task.
    pub(super) fn recurrence(&self) -> Recurrence {
        let rrule = self.rule.text.to_owned();
        Recurrence { rrule, basis: Basis::Due.into(), catch_up: CatchUp::Skip.into() }
    }

    /// Follows an update of the time zone of the series.
    fn move_to_zone(&mut self, before: &str, after: &str) {
        for slot in [&mut self.anchor, &mut self.slot] {
            if let Slot::Time(time) = slot {
                // The clocks of these zones do not change.
                *time = time_zone(after).to_datetime(time_zone(before).to_timestamp(*time).expect("near"));
            }
        }
    }

    /// Returns the day of the occurrence by the rule.
    pub(super) fn date(&self) -> String {
        match self.slot {
            Slot::Date(date) => date.to_string(),
            Slot::Time(time) => time.date().to_string(),
        }
    }
}

fn time_zone(name: &str) -> TimeZone {
    if name.is_empty() { TimeZone::UTC } else { TimeZone::get(name).expect("the zone exists") }
}

/// Returns the end of a day in a zone, in seconds.
pub(super) fn end_of_day(date: &str, zone: &str) -> i64 {
    let next = date.parse::<Date>().expect("a date").tomorrow().expect("near");
    time_zone(zone).to_timestamp(next.to_datetime(Time::midnight())).expect("near").as_second()
}

impl Task {
    pub(super) fn slot(&self) -> Option<Slot> {
        if self.date.is_empty() {
            let time = jiff::Timestamp::from_second(self.time?).expect("near");
            return Some(Slot::Time(time_zone(self.zone).to_datetime(time)));
        }
        Some(Slot::Date(self.date.parse().expect("a date")))
    }

    /// Makes the task the occurrence after this one, if there is another one.
    fn follow(&mut self, series: &Series, now: i64) -> Option<()> {
        let now = jiff::Timestamp::from_microsecond(now).expect("near");
        let zone = time_zone(series.originals.zone.unwrap_or(self.zone));
        let slots = (0..series.rule.count.min(10_000)).map(|index| series.anchor.plus_days(index * series.rule.days));
        let slot = slots.into_iter().find(|slot| slot.follows(series.slot, now, &zone))?;
        let Originals { title, notes, priority, zone, labels } = series.originals.clone();
        self.title = title.unwrap_or(self.title);
        self.notes = notes.unwrap_or(self.notes);
        self.priority = priority.unwrap_or(self.priority);
        self.zone = zone.unwrap_or(self.zone);
        self.labels = labels.unwrap_or(std::mem::take(&mut self.labels));
        (self.date, self.time) = match slot {
            Slot::Date(date) => (date.to_string(), None),
            Slot::Time(time) => {
                (String::new(), Some(time_zone(self.zone).to_timestamp(time).expect("near").as_second()))
            }
        };
        self.series = Some(Series { slot, next: None, originals: Originals::default(), ..series.clone() });
        Some(())
    }
}

impl Model {
    /// Creates the next occurrence of a completed task, if there is one. It takes over the position of the task.
    pub(super) fn create_next(&mut self, number: Number) {
        let task = self.tasks[number].clone();
        let Some(series) = task.series.clone().filter(|series| series.next.is_none()) else { return };
        let (create_time, update_time) = (self.now, self.now);
        let group = task.sibling_group();
        let mut next = Task { create_time, update_time, complete_time: None, version: 0, ..task };
        if next.follow(&series, self.now).is_none() {
            return;
        }
        let next_number = self.tasks.len();
        self.tasks.push(next);
        self.touched.insert(next_number);
        self.tasks[number].series = Some(Series { next: Some(next_number), ..series });
        let siblings = &self.sibling_groups[&group];
        let index = siblings.iter().position(|sibling| *sibling == number).expect("the task has a position");
        let count = siblings.len();
        self.insert_at(next_number, group, index);
        self.insert_at(number, group, count);
        self.completed_last.insert(number);
    }

    pub(super) fn skip(&mut self, number: Number, task: &Task) -> Result<(), Reason> {
        let series = task.series.as_ref().filter(|series| series.next.is_none() && task.complete_time.is_none());
        let mut next = task.clone();
        series.and_then(|series| next.follow(series, self.now)).ok_or("TASK_NOT_RECURRING")?;
        self.tasks[number] = next;
        self.touch(number);
        Ok(())
    }

    pub(super) fn stop(&mut self, number: Number, task: &Task) -> Result<(), Reason> {
        let Some(series) = &task.series else { return Ok(()) };
        if self.has_active_next(series) {
            return Err("TASK_NOT_RECURRING");
        }
        self.touch(number).series = None;
        Ok(())
    }

    fn has_active_next(&self, series: &Series) -> bool {
        series.next.is_some_and(|next| self.is_active(next))
    }

    pub(super) fn update(&mut self, number: Number, fields: &Fields, mask: &Mask, scope: Scope) -> Result<(), Reason> {
        let is_set = |field: &str| is_updated(fields, mask, field);
        if !super::call::FIELDS.iter().any(|field| is_set(field)) {
            return Ok(());
        }
        let before = self.tasks[number].clone();
        let has_next = before.series.as_ref().is_some_and(|series| self.has_active_next(series));
        let task = self.touch(number);
        if is_set("title") {
            task.title = fields.title;
        }
        if is_set("notes") {
            task.notes = fields.notes;
        }
        if is_set("priority") {
            task.priority = fields.priority;
        }
        if is_set("due_date") {
            fields.date.clone_into(&mut task.date);
            task.time = task.time.filter(|_| fields.date.is_empty());
        }
        if is_set("due_time") {
            task.time = fields.time;
            if fields.time.is_some() {
                task.date.clear();
            }
        }
        if is_set("time_zone") {
            task.zone = fields.zone;
        }
        if is_set("labels") {
            task.labels.clone_from(&fields.labels);
        }
        let keeps_series = before.series.is_some() && (scope == Scope::This || has_next);
        task.series = match (is_set("recurrence"), fields.rule) {
            (true, None) if keeps_series => return Err("VALIDATION_FAILED"),
            (true, None) => None,
            (true, Some(rule)) => Some(updated_series(&before, task, Some(rule), scope, has_next, is_set)?),
            (false, _) if before.series.is_none() => None,
            (false, _) => Some(updated_series(&before, task, None, scope, has_next, is_set)?),
        };
        Ok(())
    }
}

fn is_updated(fields: &Fields, mask: &Mask, field: &str) -> bool {
    match (mask, field) {
        (Mask::All, _) => true,
        (Mask::Paths(paths), field) => paths.contains(&field),
        (Mask::None, "title") => !fields.title.is_empty(),
        (Mask::None, "notes") => !fields.notes.is_empty(),
        (Mask::None, "priority") => fields.priority != 0,
        (Mask::None, "due_date") => !fields.date.is_empty(),
        (Mask::None, "due_time") => fields.time.is_some(),
        (Mask::None, "time_zone") => !fields.zone.is_empty(),
        (Mask::None, "recurrence") => fields.rule.is_some(),
        (Mask::None, _) => !fields.labels.is_empty(),
    }
}

/// Returns the series of a task after an update of these fields, which may set a rule. `has_next` says whether the next
/// occurrence exists and is not deleted.
fn updated_series(
    before: &Task,
    after: &Task,
    rule: Option<Rule>,
    scope: Scope,
    has_next: bool,
    is_set: impl Fn(&str) -> bool,
) -> Result<Series, Reason> {
    let changed = rule.filter(|rule| before.series.as_ref().is_none_or(|series| series.rule != *rule));
    if changed.is_some() && scope == Scope::This {
        return Err("VALIDATION_FAILED");
    }
    if let Some(series) = before.series.as_ref().filter(|series| series.next.is_some()) {
        match changed {
            Some(_) if has_next => return Err("VALIDATION_FAILED"),
            Some(_) => {}
            None if scope == Scope::Following => return Err("VALIDATION_FAILED"),
            None => return Ok(series.clone()),
        }
    }
    let slot = after.slot().ok_or("VALIDATION_FAILED")?;
    let Some(mut series) = before.series.clone().filter(|series| series.next.is_none()) else {
        return Ok(Series::new(changed.expect("the task did not recur"), slot));
    };
    let zone_before = series.originals.zone.unwrap_or(before.zone);
    let Originals { title, notes, priority, zone, labels } = &mut series.originals;
    record(title, is_set("title"), scope, || before.title);
    record(notes, is_set("notes"), scope, || before.notes);
    record(priority, is_set("priority"), scope, || before.priority);
    record(zone, is_set("time_zone"), scope, || before.zone);
    record(labels, is_set("labels"), scope, || before.labels.clone());
    let zone = zone.unwrap_or(after.zone);
    series.move_to_zone(zone_before, zone);
    let is_moved = (&before.date, before.time) != (&after.date, after.time);
    if changed.is_some() || (is_moved && scope == Scope::Following) {
        (series.rule, series.anchor, series.slot) = (changed.unwrap_or(series.rule), slot, slot);
    }
    Ok(series)
}

/// Keeps the value of a field that an update changes for this occurrence only.
fn record<T>(original: &mut Option<T>, is_updated: bool, scope: Scope, before: impl FnOnce() -> T) {
    if is_updated {
        *original = (scope == Scope::This).then(|| original.take().unwrap_or_else(before));
    }
}
