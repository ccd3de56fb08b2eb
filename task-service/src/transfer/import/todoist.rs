//! Reads the CSV of a project of Todoist, and the zip archive of its backups, which has one for each project.

use std::{collections::HashMap, io::Read};

use csv::StringRecord;
use jiff::Timestamp;
use taskey_proto::task::v1::{Task, task::Priority};

use super::{
    entry::{Entry, FileList, FileTask, Issue},
    keys::Keys,
    records::Records,
    sink::{File, MAX_ROW_BYTES, ReadError, Sink},
    todoist_date,
    zip::Archive,
};

/// The columns whose values are not imported, and what is said about them.
const NOT_IMPORTED: [(&str, &str); 2] = [("RESPONSIBLE", "is not imported"), ("DURATION", "is not imported")];

/// The other columns.
const COLUMNS: [&str; 13] = [
    "TYPE",
    "CONTENT",
    "DESCRIPTION",
    "IS_COLLAPSED",
    "PRIORITY",
    "INDENT",
    "AUTHOR",
    "DATE",
    "DATE_LANG",
    "TIMEZONE",
    "DURATION_UNIT",
    "DEADLINE",
    "DEADLINE_LANG",
];

/// Reads the file of one project. Its tasks are in the default list, because the file has no name of the project. Recurring
/// dates begin `now`.
///
/// # Errors
/// If it is not such a file.
pub(crate) fn read_project(text: impl Read, now: Timestamp, sink: &mut Sink) -> Result<(), ReadError> {
    Project::new(None, 0, now).read(text, sink).map(drop)
}

/// Reads a backup. Recurring dates begin `now`.
///
/// # Errors
/// If it is not a zip archive with CSV files, or is too large.
pub(crate) fn read_backup(file: &mut dyn File, now: Timestamp, sink: &mut Sink) -> Result<(), ReadError> {
    let mut archive = Archive::open(file)?;
    let (mut row, mut projects) = (0, 0);
    for index in 0..archive.entries().len() {
        let name = archive.entries()[index].name.clone();
        if name.ends_with('/') {
            continue;
        }
        let Some(title) = strip_csv(&name) else {
            sink.push(Entry::Loss(Issue::new(0, &name, "is not a CSV file, and is not imported")), 0)?;
            continue;
        };
        // Backups append the id of the project to its name: `Errands [123].csv`.
        let title = title.rsplit('/').next().unwrap_or(title);
        let plain = title.rsplit_once(" [").filter(|(_, id)| id.ends_with(']')).map_or(title, |(plain, _)| plain);
        sink.push(Entry::List(FileList { key: title.to_owned(), title: plain.to_owned() }), 0)?;
        row = Project::new(Some(title.to_owned()), row, now).read(archive.read(index)?, sink)?;
        projects += 1;
    }
    if projects == 0 { Err(ReadError::invalid(1, "the archive contains no CSV file")) } else { Ok(()) }
}

/// Returns the name of a CSV file without its ending, in upper or lower case.
fn strip_csv(name: &str) -> Option<&str> {
    let (name, ending) = name.rsplit_once('.')?;
    ending.eq_ignore_ascii_case("csv").then_some(name)
}

/// The file of a project.
struct Project {
    list: Option<String>,
    /// The number of records before the file.
    rows_before: u32,
    now: Timestamp,
    columns: HashMap<String, usize>,
    /// The author of the first task or comment.
    author: Option<String>,
    /// Whether there are others.
    has_authors: bool,
    /// The keys of the last task of each level.
    parents: Vec<String>,
    /// The task whose comments may follow.
    task: Option<FileTask>,
    keys: Keys,
}

impl Project {
    fn new(list: Option<String>, rows_before: u32, now: Timestamp) -> Self {
        let (columns, parents, keys) = (HashMap::new(), Vec::new(), Keys::default());
        let (author, has_authors) = (None, false);
        Self { list, rows_before, now, columns, author, has_authors, parents, task: None, keys }
    }

    /// Reads the file, and returns the number of its last record.
    fn read(mut self, text: impl Read, sink: &mut Sink) -> Result<u32, ReadError> {
        let mut records = Records::new(text, true);
        let header = records.next()?.unwrap_or_default();
        let names = header.iter().enumerate().map(|(index, name)| (name.trim().to_ascii_uppercase(), index));
        self.columns = names.collect();
        if !["TYPE", "CONTENT", "INDENT"].iter().all(|name| self.columns.contains_key(*name)) {
            let description = "the first record must contain the columns TYPE, CONTENT and INDENT of Todoist";
            return Err(ReadError::invalid(self.rows_before + 1, description));
        }
        let is_known = |name: &str| COLUMNS.contains(&name) || NOT_IMPORTED.iter().any(|(known, _)| *known == name);
        for name in header.iter().filter(|name| !name.is_empty() && !is_known(&name.trim().to_ascii_uppercase())) {
            let description = "is not a column of Todoist that is known, and is not imported";
            sink.push(Entry::Loss(Issue::new(self.rows_before + 1, name, description)), 0)?;
        }
        while let Some(record) = records.next()? {
            let row = self.rows_before + records.row;
            self.check_author(row, &record, sink)?;
            if record.iter().skip(header.len()).any(|text| !text.trim().is_empty()) {
                let description = "has more fields than columns; the rest is not imported";
                sink.push(Entry::Loss(Issue::new(row, "", description)), 0)?;
            }
            match self.value(&record, "TYPE").trim() {
                "task" => self.start_task(row, &record, sink)?,
                "note" => self.add_comment(row, &record, sink)?,
                "section" => {
                    self.finish_task(sink)?;
                    let description = "sections are not imported; their tasks are";
                    sink.push(Entry::Loss(Issue::new(row, "TYPE", description)), 0)?;
                }
                "" if !["CONTENT", "DESCRIPTION"].iter().all(|name| self.value(&record, name).trim().is_empty()) => {
                    sink.push(Entry::Loss(Issue::new(row, "TYPE", "is empty; the row is not imported")), 0)?;
                }
                // Empty records separate the tasks; others are settings of the view.
                "" | "meta" => {}
                _ => sink.push(Entry::Loss(Issue::new(row, "TYPE", "is not known; the row is not imported")), 0)?,
            }
        }
        self.finish_task(sink)?;
        if let Some(issue) = records.issue_at_end() {
            sink.push(Entry::Loss(Issue { row: self.rows_before + issue.row, ..issue }), 0)?;
        }
        Ok(self.rows_before + records.row)
    }

    fn value<'r>(&self, record: &'r StringRecord, column: &str) -> &'r str {
        self.columns.get(column).and_then(|index| record.get(*index)).unwrap_or_default()
    }

    /// Reports, once for a project, that several people have written its tasks and comments.
    fn check_author(&mut self, row: u32, record: &StringRecord, sink: &mut Sink) -> Result<(), ReadError> {
        let author = self.value(record, "AUTHOR").trim();
        if author.is_empty() || self.has_authors {
            return Ok(());
        }
        self.has_authors = self.author.as_ref().is_some_and(|first| first != author);
        if self.has_authors {
            let description = "is not the same for all tasks and comments, and is not imported";
            return sink.push(Entry::Loss(Issue::new(row, "AUTHOR", description)), 0);
        }
        self.author = Some(author.to_owned());
        Ok(())
    }

    fn start_task(&mut self, row: u32, record: &StringRecord, sink: &mut Sink) -> Result<(), ReadError> {
        self.finish_task(sink)?;
        let (title, labels) = split_labels(self.value(record, "CONTENT"));
        let priority = match self.value(record, "PRIORITY").trim() {
            "1" => Priority::High,
            "2" => Priority::Medium,
            "3" => Priority::Low,
            _ => Priority::Unspecified,
        };
        let notes = self.value(record, "DESCRIPTION").to_owned();
        let task = Task { title, notes, labels, priority: priority.into(), ..Task::default() };
        let level = self.value(record, "INDENT").trim().parse::<usize>().unwrap_or(1).clamp(1, self.parents.len() + 1);
        self.parents.truncate(level - 1);
        let parent = self.parents.last().cloned();
        let mut file_task = FileTask { row, parent, list: self.list.clone(), task, ..FileTask::default() };
        let project = self.list.as_deref().unwrap_or_default();
        let key = self.keys.next([project, file_task.parent.as_deref().unwrap_or_default()].into_iter().chain(record));
        file_task.set_source("todoist", key.clone());
        self.parents.push(key);
        self.set_due(&mut file_task, record, sink)?;
        for (column, description) in NOT_IMPORTED {
            if !matches!(self.value(record, column).trim(), "" | "None") {
                file_task.losses.push((column, description));
            }
        }
        self.task = Some(file_task);
        Ok(())
    }

    /// Sets when a task is due. What is not a date that is known is kept in the notes.
    fn set_due(&self, file_task: &mut FileTask, record: &StringRecord, sink: &mut Sink) -> Result<(), ReadError> {
        let value = |column| self.value(record, column).trim();
        let (text, zone) = (value("DATE"), value("TIMEZONE"));
        let is_english = matches!(value("DATE_LANG"), "" | "en");
        // A day is the same in all languages.
        let is_readable = is_english || text.starts_with(|character: char| character.is_ascii_digit());
        let (row, task) = (file_task.row, &mut file_task.task);
        let due = sink.search(row, "DATE", |searches| {
            if is_readable { todoist_date::set_due(task, text, zone, self.now, searches) } else { None }
        })?;
        if due.is_none() && !text.is_empty() {
            append(&mut file_task.task.notes, &format!("Date: {text}"));
            file_task.losses.push(("DATE", "is not a date or a recurring date that is known; it is kept in the notes"));
        }
        let deadline = self.value(record, "DEADLINE").trim();
        if !deadline.is_empty() {
            append(&mut file_task.task.notes, &format!("Deadline: {deadline}"));
            file_task.losses.push(("DEADLINE", "is kept in the notes"));
        }
        Ok(())
    }

    fn add_comment(&mut self, row: u32, record: &StringRecord, sink: &mut Sink) -> Result<(), ReadError> {
        let text = self.value(record, "CONTENT");
        match &mut self.task {
            // A comment on the project, or an attachment, which is `[[file {…}]]`.
            task if text.contains("[[file ") || task.is_none() => {
                let description = "attachments, and comments on the project, are not imported";
                sink.push(Entry::Loss(Issue::new(row, "CONTENT", description)), 0)
            }
            Some(task) => {
                append(&mut task.task.notes, text);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn finish_task(&mut self, sink: &mut Sink) -> Result<(), ReadError> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let bytes = task.task.title.len() + task.task.notes.len();
        sink.push(Entry::Task(Box::new(task)), bytes)
    }
}

/// Appends a paragraph, unless the notes are too long already.
fn append(notes: &mut String, text: &str) {
    if notes.len() < MAX_ROW_BYTES {
        notes.push_str(if notes.is_empty() { "" } else { "\n\n" });
        notes.push_str(text);
    }
}

/// Splits `Buy milk @shop` into the title and the labels.
fn split_labels(content: &str) -> (String, Vec<String>) {
    let is_label = |word: &&str| word.len() > 1 && word.starts_with('@');
    let labels: Vec<_> = content.split(' ').filter(is_label).map(|word| word[1..].to_owned()).collect();
    if labels.is_empty() {
        return (content.to_owned(), labels);
    }
    let title = content.split(' ').filter(|word| !is_label(word)).collect::<Vec<_>>().join(" ");
    (title.trim().to_owned(), labels)
}
