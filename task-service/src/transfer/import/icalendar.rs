//! Reads iCalendar (RFC 5545): each VTODO is a task.

use std::io::BufRead;

use taskey_proto::task::v1::{
    Task,
    recurrence::{Basis, CatchUp},
    task::{Priority, State},
};

use super::{
    alarm::{Alarms, Moment},
    entry::{Entry, FileList, FileTask, Issue},
    fit::has_valid_recurrence,
    keys::Keys,
    lines::Lines,
    property::{Due, Property, due, texts, time, unescape},
    sink::{MAX_ROW_BYTES, ReadError, Sink},
};
use crate::transfer::series;

/// The properties whose values belong to one copy of the task.
const OF_ONE_COPY: [&str; 3] = ["DTSTAMP", "LAST-MODIFIED", "SEQUENCE"];

/// Reads a file.
///
/// # Errors
/// If it is not a calendar, or ends early.
pub(crate) fn read(text: &mut impl BufRead, sink: &mut Sink) -> Result<(), ReadError> {
    let mut lines = Lines::new(text);
    let mut calendar = Calendar::default();
    while let Some(line) = lines.next()? {
        let row = lines.row;
        let line = String::from_utf8(line).map_err(|_| ReadError::invalid(row, "must be UTF-8"))?;
        if line.is_empty() {
            continue;
        }
        let Some(property) = Property::parse(&line) else {
            return Err(ReadError::invalid(row, "is not a property of iCalendar"));
        };
        calendar.read(row, &property, line.len(), sink)?;
    }
    match (calendar.components.is_empty(), calendar.has_begun) {
        (true, true) => Ok(()),
        (false, _) => Err(ReadError::invalid(lines.row + 1, "the file ends early: a component has no end")),
        (true, false) => Err(ReadError::invalid(1, "the file must begin with BEGIN:VCALENDAR")),
    }
}

/// What has been read of a calendar.
#[derive(Default)]
struct Calendar {
    has_begun: bool,
    /// The components that have begun, from the outermost.
    components: Vec<String>,
    /// The name of the calendar, as a list.
    name: Option<String>,
    task: FileTask,
    alarms: Alarms,
    /// The row of the recurrence rule.
    rule_row: Option<u32>,
    /// The row of the percentage, if it is 100.
    percent_row: Option<u32>,
    /// The row of the start.
    start_row: u32,
    /// Whether the component is an occurrence of a recurring task that differs from the others.
    is_occurrence: bool,
    bytes: usize,
    keys: Keys,
}

impl Calendar {
    fn read(&mut self, row: u32, property: &Property<'_>, bytes: usize, sink: &mut Sink) -> Result<(), ReadError> {
        self.bytes += bytes;
        if self.bytes > MAX_ROW_BYTES {
            return Err(ReadError::invalid(row, "a task must not be longer than 256 KiB"));
        }
        let value = property.value;
        match &*property.name {
            "BEGIN" => self.begin(row, &value.to_ascii_uppercase(), sink),
            "END" => self.end(row, &value.to_ascii_uppercase(), sink),
            _ if self.components.is_empty() => Err(ReadError::invalid(row, "the file must begin with BEGIN:VCALENDAR")),
            "X-WR-CALNAME" if self.components.len() == 1 => {
                self.bytes = 0;
                self.set_list(unescape(value), unescape(value), sink)
            }
            name if self.is_in_task() => self.set(row, name, property, sink),
            name if self.is_in_alarm() => match self.alarms.set(row, name, property) {
                Some(description) => loss(row, name, description, sink),
                None => Ok(()),
            },
            _ => {
                // What belongs to a task counts, whatever it is.
                if self.components.iter().all(|component| component != "VTODO") {
                    self.bytes = 0;
                }
                Ok(())
            }
        }
    }

    /// Reports whether the property belongs to a task, and not to a component of it.
    fn is_in_task(&self) -> bool {
        self.components.last().is_some_and(|component| component == "VTODO")
    }

    /// Reports whether the property belongs to an alarm of a task.
    fn is_in_alarm(&self) -> bool {
        matches!(&self.components[..], [_, task, alarm] if task == "VTODO" && alarm == "VALARM")
    }

    fn begin(&mut self, row: u32, component: &str, sink: &mut Sink) -> Result<(), ReadError> {
        match (self.components.len(), component) {
            (0, "VCALENDAR") => (self.has_begun, self.name) = (true, None),
            (0, _) => return Err(ReadError::invalid(row, "the file must begin with BEGIN:VCALENDAR")),
            (1, "VTODO") => {
                self.task = FileTask { row, list: self.name.clone(), ..FileTask::default() };
                (self.is_occurrence, self.rule_row, self.percent_row) = (false, None, None);
                self.alarms = Alarms::default();
            }
            (1, "VTIMEZONE") => {}
            (1, _) => loss(row, component, "is not a task, and is not imported", sink)?,
            (2, "VALARM") if self.is_in_task() => self.alarms.begin(row),
            (2, _) if self.is_in_task() => loss(row, component, "is not imported", sink)?,
            (3, _) if self.is_in_alarm() => loss(row, component, "is not imported", sink)?,
            (2..=8, _) => {}
            _ => return Err(ReadError::invalid(row, "components are nested too deeply")),
        }
        self.components.push(component.to_owned());
        Ok(())
    }

    fn end(&mut self, row: u32, component: &str, sink: &mut Sink) -> Result<(), ReadError> {
        if self.components.pop().as_deref() != Some(component) {
            return Err(ReadError::invalid(row, "ends another component than the one that has begun"));
        }
        match (self.components.len(), component) {
            (2, "VALARM") if self.is_in_task() => {
                return match self.alarms.end() {
                    Some((row, description)) => loss(row, component, description, sink),
                    None => Ok(()),
                };
            }
            (1, "VTODO") => {}
            (..=1, _) => {
                self.bytes = 0;
                return Ok(());
            }
            _ => return Ok(()),
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut task = std::mem::take(&mut self.task);
        if self.is_occurrence {
            return loss(task.row, "", "is a changed occurrence of a recurring task, and is not imported", sink);
        }
        if task.key.is_empty() {
            let Task { title, notes, .. } = &task.task;
            let key = self.keys.next([title.as_str(), notes].into_iter());
            task.set_source("icalendar", key);
        }
        if let Some(row) = self.percent_row.take().filter(|_| task.task.state() != State::Completed) {
            loss(row, "PERCENT-COMPLETE", "is 100, but STATUS is not COMPLETED; the task is open", sink)?;
        }
        let (rule_row, series) = (self.rule_row.take(), task.series.as_ref());
        if let Some(row) = rule_row
            && !sink.search(row, "RRULE", |searches| has_valid_recurrence(&task.task, series, searches))?
        {
            (task.task.recurrence, task.series) = (None, None);
            loss(row, "RRULE", "is not a rule for this due date, and is not imported", sink)?;
        }
        let alarms = std::mem::take(&mut self.alarms);
        // Apple Reminders writes the due date as the start, too.
        if alarms.start.is_some() && alarms.start != alarms.due {
            loss(self.start_row, "DTSTART", "is not imported", sink)?;
        }
        for (row, name, description) in alarms.finish(&mut task.task) {
            loss(row, name, description, sink)?;
        }
        sink.push(Entry::Task(Box::new(task)), bytes)
    }

    /// Sets the list of the following tasks, or of the current one.
    fn set_list(&mut self, key: String, title: String, sink: &mut Sink) -> Result<(), ReadError> {
        if title.is_empty() {
            return Ok(());
        }
        let list = if self.is_in_task() { &mut self.task.list } else { &mut self.name };
        *list = Some(key.clone());
        sink.push(Entry::List(FileList { key, title }), 0)
    }

    /// Sets a field of the current task.
    fn set(&mut self, row: u32, name: &str, property: &Property<'_>, sink: &mut Sink) -> Result<(), ReadError> {
        let (value, file_task) = (property.value, &mut self.task);
        let task = &mut file_task.task;
        match name {
            "UID" => file_task.set_source("icalendar", unescape(value)),
            "SUMMARY" => task.title = unescape(value),
            "DESCRIPTION" => task.notes = unescape(value),
            "CATEGORIES" => task.labels.extend(texts(value)),
            "RELATED-TO" if property.parameter("RELTYPE").is_none_or(|kind| kind.eq_ignore_ascii_case("PARENT")) => {
                if file_task.parent.is_some() {
                    return loss(row, name, "is the second parent, and is not imported", sink);
                }
                file_task.parent = Some(unescape(value));
            }
            "RECURRENCE-ID" => self.is_occurrence = true,
            "RRULE" if self.rule_row.is_some() => {
                return loss(row, name, "is the second rule, and is not imported", sink);
            }
            "RRULE" => {
                self.rule_row = Some(row);
                value.clone_into(&mut task.recurrence.get_or_insert_default().rrule);
            }
            "X-TASKEY-BASIS" => {
                let basis = Basis::from_str_name(value).unwrap_or_default();
                task.recurrence.get_or_insert_default().basis = basis.into();
            }
            "X-TASKEY-CATCH-UP" => {
                let catch_up = CatchUp::from_str_name(value).unwrap_or_default();
                task.recurrence.get_or_insert_default().catch_up = catch_up.into();
            }
            "X-TASKEY-SERIES" => match series::parse(unescape(value).into()) {
                Ok(series) => file_task.series = Some(series),
                Err(description) => return sink.push(Entry::Error(Issue::new(row, name, description)), 0),
            },
            "X-TASKEY-TIME-ZONE" => task.time_zone = unescape(value),
            "X-TASKEY-LIST-ID" => file_task.list = Some(unescape(value)),
            "X-TASKEY-LIST" => {
                if let Some(key) = file_task.list.clone() {
                    return self.set_list(key, unescape(value), sink);
                }
            }
            "CREATED" => match time(property) {
                Some(time) => task.create_time = Some(time),
                None => return loss(row, name, "is not a time in UTC, and is not imported", sink),
            },
            "COMPLETED" => {
                (task.state, task.complete_time) = (State::Completed.into(), time(property));
                if task.complete_time.is_none() {
                    return loss(row, name, "is not a time in UTC; the task is completed, but not at that time", sink);
                }
            }
            "DTSTART" => match due(property) {
                Some(start) => (self.start_row, self.alarms.start) = (row, Some(Moment::from(&start))),
                None => return loss(row, name, "is not imported", sink),
            },
            "DUE" if self.alarms.due.is_some() => {
                return loss(row, name, "is the second due date, and is not imported", sink);
            }
            "DUE" => {
                let Some(due) = due(property) else {
                    return loss(row, name, "is not a date or a time of a known time zone, and is not imported", sink);
                };
                self.alarms.due = Some(Moment::from(&due));
                match due {
                    Due::Date(date) => task.due_date = date.to_string(),
                    Due::Time(time, zone) => {
                        task.due_time = Some(time);
                        if let Some(zone) = zone {
                            task.time_zone = zone;
                        }
                    }
                    Due::FloatingTime(local) => {
                        task.due_date = local.date().to_string();
                        return loss(row, name, "has no time zone; only its date is imported", sink);
                    }
                }
            }
            "PRIORITY" => {
                task.priority = match value.trim() {
                    "1" | "2" | "3" | "4" => Priority::High,
                    "5" => Priority::Medium,
                    "6" | "7" | "8" | "9" => Priority::Low,
                    _ => Priority::Unspecified,
                }
                .into();
            }
            "STATUS" => match value.to_ascii_uppercase().as_str() {
                "NEEDS-ACTION" => {}
                "COMPLETED" => task.state = State::Completed.into(),
                "CANCELLED" => {
                    task.state = State::Completed.into();
                    return loss(row, name, "is CANCELLED; the task is imported as completed", sink);
                }
                _ => return loss(row, name, "is not imported; the task is open", sink),
            },
            "PERCENT-COMPLETE" if value == "100" => self.percent_row = Some(row),
            "PERCENT-COMPLETE" if value == "0" => {}
            name if OF_ONE_COPY.contains(&name) => {}
            name => return loss(row, name, "is not imported", sink),
        }
        Ok(())
    }
}

fn loss(row: u32, name: &str, description: &str, sink: &mut Sink) -> Result<(), ReadError> {
    sink.push(Entry::Loss(Issue::new(row, name, description)), 0)
}
