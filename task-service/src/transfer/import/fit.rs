//! Makes the values of other products fit the limits of Taskey, and says what is lost.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use service_kit::status::Violations;
use taskey_proto::task::v1::{CreateTaskRequest, Reminder, Task, reminder::Time};

use super::entry::Loss;
use crate::{
    model::{
        field::{self, MAX_LABEL_CHARS, MAX_LABELS, MAX_NOTES_CHARS, MAX_TITLE_CHARS},
        fold::fold,
        recurrence::{SearchBudget, SeriesState},
    },
    request::{reminder, validator::RequestValidator, write},
};

/// The title of tasks that have none.
const NO_TITLE: &str = "(no title)";

/// Changes the texts of a task that Taskey cannot store. Adds what is lost.
pub(crate) fn fit(task: &mut Task, losses: &mut Vec<Loss>) {
    fit_title(task, losses);
    fit_notes(task, losses);
    fit_labels(task, losses);
    if field::time_zone(task.time_zone.clone()).is_err() {
        task.time_zone.clear();
        losses.push(("time_zone", "is not a time zone of the IANA database, and is not imported"));
    }
}

/// Reports whether a task can recur as it does, in a series with this state.
pub(crate) fn has_valid_recurrence(task: &Task, series: Option<&SeriesState>, searches: &mut SearchBudget) -> bool {
    let Task { due_date, time_zone, .. } = task.clone();
    let (due_time, recurrence) = (task.due_time, task.recurrence.clone());
    let task = Task { title: "-".to_owned(), due_date, due_time, time_zone, recurrence, ..Task::default() };
    let request = CreateTaskRequest { task: Some(task), ..CreateTaskRequest::default() };
    let mut violations = Violations::default();
    let mut validator = RequestValidator { violations: &mut violations, prefix: "", searches };
    let write = write::create_in_series(request, series, &mut validator);
    violations.finish(write).is_ok()
}

/// Reports whether a reminder can be stored.
pub(crate) fn is_valid_reminder(reminder: &Reminder) -> bool {
    reminder::parse("", std::slice::from_ref(reminder), &mut Violations::default()).is_some()
}

/// Makes the reminders of a recurring task relative to its due date: in other products, they follow it, although they are
/// times. Reports whether all of them do now.
pub(crate) fn relate_reminders(task: &mut Task) -> bool {
    let mut reminders = std::mem::take(&mut task.reminders);
    for reminder in &mut reminders {
        let Some(Time::RemindTime(time)) = reminder.time else { continue };
        let Some(seconds) = seconds_before_due(task, time) else { continue };
        let time = Some(Time::BeforeDue(prost_types::Duration { seconds, nanos: 0 }));
        let relative = Reminder { time, ..reminder.clone() };
        if is_valid_reminder(&relative) {
            *reminder = relative;
        }
    }
    task.reminders = reminders;
    task.reminders.iter().all(|reminder| matches!(reminder.time, Some(Time::BeforeDue(_))))
}

/// Returns how long before the due time, or before the start of the due date, an instant is.
fn seconds_before_due(task: &Task, time: prost_types::Timestamp) -> Option<i64> {
    if let Some(due_time) = task.due_time {
        return due_time.seconds.checked_sub(time.seconds);
    }
    let date: Date = task.due_date.parse().ok()?;
    let zone = TimeZone::get(&task.time_zone).unwrap_or(TimeZone::UTC);
    let local = zone.to_datetime(Timestamp::from_second(time.seconds).ok()?);
    Some(date.at(0, 0, 0, 0).duration_since(local).as_secs())
}

fn fit_title(task: &mut Task, losses: &mut Vec<Loss>) {
    if task.title.contains(char::is_control) {
        task.title = task.title.replace(char::is_control, " ");
        losses.push(("title", "has control characters, which are replaced with spaces"));
    }
    if task.title.chars().all(char::is_whitespace) {
        NO_TITLE.clone_into(&mut task.title);
        losses.push(("title", "is empty; the task is imported as \"(no title)\""));
    }
    if let Some(cut) = cut(&task.title, MAX_TITLE_CHARS) {
        let separator = if task.notes.is_empty() { "" } else { "\n\n" };
        task.notes = format!("{}{separator}{}", task.title, task.notes);
        task.title = cut;
        losses.push(("title", "is longer than 200 characters; the whole title is in the notes"));
    }
}

fn fit_notes(task: &mut Task, losses: &mut Vec<Loss>) {
    let is_refused = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if task.notes.contains(is_refused) {
        task.notes = task.notes.replace(is_refused, " ");
        losses.push(("notes", "have control characters, which are replaced with spaces"));
    }
    if let Some(cut) = cut(&task.notes, MAX_NOTES_CHARS) {
        task.notes = cut;
        losses.push(("notes", "are longer than 4000 characters; the rest is not imported"));
    }
}

fn fit_labels(task: &mut Task, losses: &mut Vec<Loss>) {
    let (mut labels, mut keys) = (Vec::new(), Vec::new());
    for label in std::mem::take(&mut task.labels) {
        let label = label.replace(char::is_control, " ");
        if label.chars().all(char::is_whitespace) {
            continue;
        }
        let key = fold(&label);
        if keys.contains(&key) {
            losses.push(("labels", "a label occurs twice, perhaps with another case, and is imported once"));
            continue;
        }
        if label.chars().count() > MAX_LABEL_CHARS {
            losses.push(("labels", "a label is longer than 50 characters, and is not imported"));
        } else if labels.len() == MAX_LABELS {
            losses.push(("labels", "there are more than 20 labels; the rest are not imported"));
            break;
        } else {
            labels.push(label);
            keys.push(key);
        }
    }
    task.labels = labels;
}

/// Returns a text of this length that ends with an ellipsis, if the text is longer.
fn cut(text: &str, max_chars: usize) -> Option<String> {
    text.chars().nth(max_chars)?;
    Some(text.chars().take(max_chars - 1).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(task: Task) -> (Task, Vec<&'static str>) {
        let (mut task, mut losses) = (task, Vec::new());
        fit(&mut task, &mut losses);
        (task, losses.into_iter().map(|(field, _)| field).collect())
    }

    #[test]
    fn task_that_fits_is_not_changed() {
        let task = Task {
            title: "x".repeat(200),
            notes: format!("{}\n\t", "ü".repeat(3998)),
            labels: vec!["a".to_owned(), "b c".to_owned()],
            time_zone: "Europe/Berlin".to_owned(),
            ..Task::default()
        };
        assert_eq!(fitted(task.clone()), (task, vec![]));
    }

    #[test]
    fn whole_title_is_in_the_notes_if_it_is_too_long() {
        let title = "ü".repeat(201);
        let task = Task { title: title.clone(), notes: "more".to_owned(), ..Task::default() };
        let (task, losses) = fitted(task);
        assert_eq!((task.title.chars().count(), task.notes), (200, format!("{title}\n\nmore")));
        assert_eq!(losses, ["title"]);
    }

    #[test]
    fn what_is_lost_is_named() {
        let task = Task {
            title: "\u{7}".to_owned(),
            notes: format!("\0{}", "x".repeat(4000)),
            labels: (0..21).map(|n| n.to_string()).chain(["x".repeat(51)]).collect(),
            time_zone: "Mars/Base".to_owned(),
            ..Task::default()
        };
        let (task, losses) = fitted(task);
        assert_eq!((&task.title[..], task.notes.chars().count(), task.labels.len()), (NO_TITLE, 4000, 20));
        assert_eq!(losses, ["title", "title", "notes", "notes", "labels", "time_zone"]);
    }
}
