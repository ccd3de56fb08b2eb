//! What files contain, whatever their format.

use taskey_proto::task::v1::Task;

use super::keys::Keys;
use crate::model::recurrence::SeriesState;

/// Longer keys are hashed.
const MAX_KEY_BYTES: usize = 200;

/// Maximum length of the name of a field in a report.
const MAX_NAME_CHARS: usize = 50;

/// A list or a task of a file, or a part of it that cannot be imported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    List(FileList),
    Task(Box<FileTask>),
    /// The rest of the file can be imported without it.
    Loss(Issue),
    /// The file cannot be imported.
    Error(Issue),
}

/// A list of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FileList {
    /// Identifies the list in the file.
    pub(crate) key: String,
    pub(crate) title: String,
}

/// A task of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FileTask {
    pub(crate) row: u32,
    /// Identifies the task in the file.
    pub(crate) key: String,
    /// The key of the parent.
    pub(crate) parent: Option<String>,
    /// The key of the list; `None` for the default list.
    pub(crate) list: Option<String>,
    /// The fields. `source_id` is empty if the key, a UUID, identifies the task in Taskey.
    pub(crate) task: Task,
    /// The state of the series, unless it begins with the task.
    pub(crate) series: Option<SeriesState>,
    /// What cannot be carried over.
    pub(crate) losses: Vec<Loss>,
}

/// A field, and a description of what is not imported of it, or why it is invalid.
pub(crate) type Loss = (&'static str, &'static str);

/// A finding about a row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// The line, the record or the item, from 1.
    pub(crate) row: u32,
    /// Empty for the whole row.
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Issue {
    /// Creates a finding. The name of the field can come from the file, so it is cut.
    pub(crate) fn new(row: u32, field: impl AsRef<str>, description: impl Into<String>) -> Self {
        let field = field.as_ref().chars().take(MAX_NAME_CHARS).collect();
        Self { row, field, description: description.into() }
    }
}

impl FileTask {
    /// Creates the task with this content, whose ids are keys of the file.
    pub(crate) fn from_task(task: Task) -> Self {
        let key = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        let (parent, list) = (key(&task.parent_id), key(&task.list_id));
        Self { key: task.id.clone(), parent, list, task, ..Self::default() }
    }

    /// Sets the key, and a source id with the name of the product.
    pub(crate) fn set_source(&mut self, product: &str, key: String) {
        self.task.source_id = format!("{product}:{}", short_key(&key));
        self.key = key;
    }
}

/// Returns a key that can be stored: this one, or its hash.
pub(crate) fn short_key(key: &str) -> String {
    let is_short = key.len() <= MAX_KEY_BYTES && !key.contains(char::is_control);
    if is_short { key.to_owned() } else { Keys::default().next([key].into_iter()) }
}
