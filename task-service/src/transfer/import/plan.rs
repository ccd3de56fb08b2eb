//! Decides what an import creates, from all rows of the file: those that exist are unchanged, and parents may follow their
//! subtasks. Stores about a hundred bytes for each row.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry as MapEntry};

use aws_lc_rs::digest::{SHA256, digest};
use service_kit::{clock::Timestamp, status::Violations};
use taskey_proto::task::v1::{Task, task::State};
use uuid::Uuid;

use super::{
    check::{parse, violations},
    entry::{Entry, FileTask, Issue, short_key},
    fit::fit,
    report::Report,
    sink::ROW_DAYS,
};
use crate::{
    model::{
        field::{self, MAX_TITLE_CHARS},
        mutation::MAX_LEVELS,
        rank::SequenceNumber,
        recurrence::SearchBudget,
        write::{Imported, NewTask, Write},
    },
    store::import::Location,
};

/// The beginning of the hash of a key.
type KeyHash = [u8; 16];

/// The depth of a task whose ancestors are being computed.
const IN_PROGRESS: usize = usize::MAX;

/// What an import creates.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    by_key: HashMap<KeyHash, usize>,
    sources: HashSet<KeyHash>,
    /// The lists, in the order in which the file names them.
    pub(crate) lists: Vec<PlannedList>,
    list_by_key: HashMap<String, usize>,
    /// The title of the default list in the file.
    pub(crate) default_title: Option<String>,
    pub(crate) report: Report,
    /// What the searches for occurrences of all rows may still examine.
    searches: SearchBudget,
}

/// A task of the file.
#[derive(Debug)]
pub(crate) struct Row {
    number: u32,
    parent_key: Option<KeyHash>,
    /// The index of the parent.
    parent: Option<usize>,
    /// The id of the parent, if it is not that of a row: existing tasks are where the account has them.
    outer_parent: Option<Uuid>,
    /// The index of the list; `None` for the default list.
    list: Option<usize>,
    /// 1 at the top level. 0 until it is computed.
    pub(crate) depth: usize,
    pub(crate) id: Uuid,
    pub(crate) status: Status,
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    New,
    /// It has been imported before, or comes from this account.
    Exists,
    /// It exists and is deleted.
    Deleted,
}

/// A list of the file.
#[derive(Debug)]
pub(crate) struct PlannedList {
    pub(crate) key: String,
    /// `None` until the file has named it.
    pub(crate) title: Option<String>,
    /// Its id in Taskey, which is set before the tasks are created.
    pub(crate) id: Option<Uuid>,
}

/// How a task can be found that was imported before.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) index: usize,
    pub(crate) source_id: String,
    /// The id that the file contains.
    pub(crate) id: Option<Uuid>,
    /// Whether the source id is stored, even if the task keeps its id.
    has_source: bool,
    /// The title, if the source id is an id of the file that other files may have, too, such as a number.
    title: Option<String>,
}

impl Plan {
    /// Adds an entry. Returns how its task can be found.
    pub(crate) fn add(&mut self, entry: Entry) -> Option<Lookup> {
        match entry {
            Entry::List(list) if list.key.is_empty() => self.default_title = Some(list.title),
            Entry::List(list) => {
                let index = self.list(&list.key);
                // One more character than permitted, so that the rest is reported.
                let title = || list.title.chars().take(MAX_TITLE_CHARS + 1).collect();
                self.lists[index].title.get_or_insert_with(title);
            }
            Entry::Task(task) => return Some(self.add_task(*task)),
            Entry::Loss(issue) => self.report.add_loss(issue),
            Entry::Error(issue) => self.report.add_error(issue),
        }
        None
    }

    fn list(&mut self, key: &str) -> usize {
        match self.list_by_key.entry(short_key(key)) {
            MapEntry::Occupied(index) => *index.get(),
            MapEntry::Vacant(vacant) => {
                self.lists.push(PlannedList { key: vacant.key().clone(), title: None, id: None });
                *vacant.insert(self.lists.len() - 1)
            }
        }
    }

    fn add_task(&mut self, file_task: FileTask) -> Lookup {
        let index = self.rows.len();
        let lookup = Self::lookup(index, &file_task);
        let FileTask { row: number, key, parent, list, task, series, losses } = file_task;
        for (field, description) in losses {
            self.report.add_loss(Issue::new(number, field, description));
        }
        let check = |searches: &mut SearchBudget| violations(&task, series.as_ref(), searches);
        for (field, description) in self.searches.with_allowance(ROW_DAYS, check) {
            self.report.add_error(Issue::new(number, field, description));
        }
        if self.by_key.insert(hash(&key), index).is_some() {
            self.report.add_error(Issue::new(number, "id", "another row has the same id"));
        } else if lookup.has_source && !self.sources.insert(hash(&lookup.source_id)) {
            self.report.add_error(Issue::new(number, "source_id", "another row has the same source id"));
        }
        let list = list.map(|key| self.list(&key));
        let parent_key = parent.map(|key| hash(&key));
        let (parent, outer_parent, depth, id, status) = (None, None, 0, Uuid::nil(), Status::New);
        self.rows.push(Row { number, parent_key, parent, outer_parent, list, depth, id, status });
        lookup
    }

    /// Returns how the task of a row can be found.
    pub(crate) fn lookup(index: usize, file_task: &FileTask) -> Lookup {
        let FileTask { key, task, .. } = file_task;
        let (source_id, id) = (if task.source_id.is_empty() { key } else { &task.source_id }, field::id(key).ok());
        let (has_id, has_source) = (id.is_some(), !task.source_id.is_empty());
        let title = (!has_id && !has_source).then(|| task.title.clone());
        Lookup { index, source_id: source_id.clone(), id, has_source: !has_id || has_source, title }
    }

    /// Reports a row that is recognized by an id that is not unique, if the task with this id has another title.
    pub(crate) fn check_title(&mut self, lookup: &Lookup, existing: &str) {
        if lookup.title.as_ref().is_some_and(|title| title != existing) {
            let description =
                "is that of a task with another title, which was imported before; the row is not imported";
            self.report.add_loss(Issue::new(self.rows[lookup.index].number, "id", description));
        }
    }

    /// Returns the title of a list, as it can be stored.
    pub(crate) fn list_title(&mut self, index: usize) -> String {
        let title = self.lists[index].title.clone().unwrap_or_default();
        let (mut task, mut losses) = (Task { title, ..Task::default() }, Vec::new());
        fit(&mut task, &mut losses);
        for (_, description) in losses {
            self.report.add_loss(Issue::new(0, "list", description));
        }
        task.title
    }

    /// Returns the rows of existing tasks that get new subtasks.
    pub(crate) fn existing_parents(&self) -> Vec<usize> {
        let parents = self.new_rows().filter_map(|row| self.by_key.get(&row.parent_key?).copied());
        let parents: BTreeSet<_> = parents.filter(|parent| self.rows[*parent].status == Status::Exists).collect();
        parents.into_iter().collect()
    }

    /// Sets where the account has an existing task, whatever its parent in the file is.
    pub(crate) fn set_location(&mut self, index: usize, location: Location) {
        (self.rows[index].depth, self.rows[index].outer_parent) = (location.level, location.parent_id);
    }

    /// Computes the parents, when all rows have been added and found, and existing parents have their locations.
    pub(crate) fn resolve_parents(&mut self) {
        for index in 0..self.rows.len() {
            let Some(key) = self.rows[index].parent_key.filter(|_| self.rows[index].depth == 0) else { continue };
            let parent = self.by_key.get(&key).copied();
            let description = match parent.map(|parent| self.rows[parent].status) {
                None => Some("is not in the file; the task is imported at the top level"),
                Some(Status::Deleted) => Some("is deleted; the task is imported at the top level"),
                Some(Status::New | Status::Exists) => None,
            };
            self.rows[index].parent = parent.filter(|_| description.is_none());
            self.add_loss_of_new(index, "parent_id", description);
        }
        for index in 0..self.rows.len() {
            if self.rows[index].depth == 0 {
                self.compute_depth(index);
            }
            let is_unknown = self.rows[index].list.is_some_and(|list| self.lists[list].title.is_none());
            if is_unknown {
                self.rows[index].list = None;
                let description = "is not in the file; the task is imported into the default list";
                self.add_loss_of_new(index, "list_id", Some(description));
            }
        }
    }

    fn add_loss_of_new(&mut self, index: usize, field: &str, description: Option<&'static str>) {
        let Row { number, status, .. } = self.rows[index];
        if let (Status::New, Some(description)) = (status, description) {
            self.report.add_loss(Issue::new(number, field, description));
        }
    }

    /// Computes the depth of a task and of its ancestors. A task that would be too deep becomes a sibling of its parent.
    fn compute_depth(&mut self, index: usize) {
        let mut path = vec![index];
        while let Some(parent) = self.rows[path[path.len() - 1]].parent {
            self.rows[path[path.len() - 1]].depth = IN_PROGRESS;
            if self.rows[parent].depth == IN_PROGRESS {
                let number = self.rows[parent].number;
                self.report.add_error(Issue::new(number, "parent_id", "is the task itself or one of its subtasks"));
                for index in &path {
                    self.rows[*index].parent = None;
                }
                break;
            }
            if self.rows[parent].depth > 0 {
                break;
            }
            path.push(parent);
        }
        for index in path.into_iter().rev() {
            let parent = self.rows[index].parent.map(|parent| &self.rows[parent]);
            let depth = parent.map_or(0, |parent| parent.depth);
            if depth < MAX_LEVELS {
                self.rows[index].depth = depth + 1;
                continue;
            }
            let siblings = parent.map(|sibling| (sibling.parent, sibling.outer_parent)).unwrap_or_default();
            (self.rows[index].parent, self.rows[index].outer_parent) = siblings;
            self.rows[index].depth = depth;
            let description = "is on the 5th level; the task is imported as its sibling";
            self.add_loss_of_new(index, "parent_id", Some(description));
        }
    }

    /// Returns the task to create for a row.
    ///
    /// `first` is the first mutation of the import, unless this is the first. A completed task without a time was completed
    /// `now`.
    pub(crate) fn new_task(
        &self,
        index: usize,
        file_task: FileTask,
        first: Option<SequenceNumber>,
        now: Timestamp,
    ) -> Option<NewTask> {
        let row = &self.rows[index];
        let FileTask { key, mut task, series, .. } = file_task;
        let is_completed = task.state() == State::Completed;
        let keeps_id = field::id(&key).is_ok_and(|id| id == row.id);
        let source_id = if task.source_id.is_empty() && !keeps_id { key } else { std::mem::take(&mut task.source_id) };
        let (create_time, complete_time) = (task.create_time, task.complete_time);
        // The budget of the import has been checked.
        let (mut violations, mut searches) = (Violations::default(), SearchBudget::default());
        let write = parse(task, series.as_ref(), &mut violations, &mut searches);
        let Some(Write::Create(new)) = write else { return None };
        let parent_id = row.parent.map(|parent| self.rows[parent].id).or(row.outer_parent);
        let list_id = row.list.and_then(|list| self.lists[list].id).filter(|_| parent_id.is_none());
        let imported = Imported {
            source_id: (!source_id.is_empty()).then_some(source_id),
            create_time: create_time.map(Into::into),
            complete_time: complete_time.map(Into::into).or(is_completed.then_some(now)),
            series,
            first,
            row: u32::try_from(index).unwrap_or(u32::MAX),
        };
        Some(NewTask { id: Some(row.id), list_id, parent_id, imported: Some(Box::new(imported)), ..new })
    }

    /// Returns the depths of the new tasks, from the top level.
    pub(crate) fn new_depths(&self) -> BTreeSet<usize> {
        self.new_rows().map(|row| row.depth).collect()
    }

    pub(crate) fn new_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.status == Status::New)
    }

    /// Returns the lists to which new tasks are added, and those without tasks.
    pub(crate) fn needed_lists(&self) -> Vec<usize> {
        let (mut has_tasks, mut has_new) = (vec![false; self.lists.len()], vec![false; self.lists.len()]);
        for row in &self.rows {
            if let Some(list) = row.list {
                has_tasks[list] = true;
                has_new[list] |= row.status == Status::New;
            }
        }
        let is_needed = |list: &usize| self.lists[*list].title.is_some() && (has_new[*list] || !has_tasks[*list]);
        (0..self.lists.len()).filter(is_needed).collect()
    }
}

/// Returns the beginning of the hash of a key. Ids are equal in upper and lower case.
fn hash(key: &str) -> KeyHash {
    let key = field::id(key).map_or_else(|_| key.to_owned(), |id| id.to_string());
    let mut short = KeyHash::default();
    short.copy_from_slice(&digest(&SHA256, key.as_bytes()).as_ref()[..size_of::<KeyHash>()]);
    short
}
