//! The tasks that a mutation concerns, with their ancestors and descendants.

use std::collections::{HashMap, HashSet};

use service_kit::clock::Timestamp;
use uuid::Uuid;

use crate::model::TaskRow;

/// What moves, completions, deletions and undeletions change in a task and its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) list_id: Uuid,
    pub(crate) parent_id: Option<Uuid>,
    /// Set if the task is completed.
    pub(crate) complete_time: Option<Timestamp>,
    /// Set if the task is deleted.
    pub(crate) delete_time: Option<Timestamp>,
    /// Set if and only if `delete_time` is set.
    pub(crate) purge_time: Option<Timestamp>,
}

impl Node {
    pub(crate) fn from_task(task: &TaskRow) -> Self {
        let TaskRow { list_id, parent_id, complete_time, delete_time, purge_time, .. } = *task;
        Self { list_id, parent_id, complete_time, delete_time, purge_time }
    }

    pub(crate) fn is_active(self) -> bool {
        self.delete_time.is_none()
    }

    /// Reports whether the task is neither deleted nor completed.
    pub(crate) fn is_open(self) -> bool {
        self.is_active() && self.complete_time.is_none()
    }
}

/// An ancestor or a descendant of a task that a write names. Its texts are not read, because there may be thousands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relative {
    pub(crate) id: Uuid,
    /// What it was before the mutation.
    pub(crate) before: Node,
    pub(crate) node: Node,
    /// How often this mutation has changed it.
    pub(crate) changes: i64,
}

/// Tasks, their ancestors and their descendants.
#[derive(Debug)]
pub(crate) struct TaskTree {
    /// The tasks that the writes name.
    tasks: HashMap<Uuid, TaskRow>,
    /// All others.
    relatives: HashMap<Uuid, Relative>,
    children: HashMap<Uuid, HashSet<Uuid>>,
}

impl TaskTree {
    /// Creates a tree. Relatives that are also among the tasks are ignored.
    pub(crate) fn new(tasks: HashMap<Uuid, TaskRow>, relatives: Vec<Relative>) -> Self {
        let relatives = relatives.into_iter().filter(|relative| !tasks.contains_key(&relative.id));
        let relatives: HashMap<_, _> = relatives.map(|relative| (relative.id, relative)).collect();
        let mut children: HashMap<Uuid, HashSet<Uuid>> = HashMap::new();
        let parents = tasks.values().map(|task| (task.id, task.parent_id));
        for (id, parent) in parents.chain(relatives.values().map(|relative| (relative.id, relative.node.parent_id))) {
            if let Some(parent) = parent {
                children.entry(parent).or_default().insert(id);
            }
        }
        Self { tasks, relatives, children }
    }

    /// Returns a task that a write names.
    pub(crate) fn task(&self, id: Uuid) -> Option<&TaskRow> {
        self.tasks.get(&id)
    }

    /// Returns the location of any task of the tree.
    pub(crate) fn node(&self, id: Uuid) -> Option<Node> {
        self.tasks.get(&id).map(Node::from_task).or_else(|| self.relatives.get(&id).map(|relative| relative.node))
    }

    /// Returns the location of an active task.
    pub(crate) fn active(&self, id: Uuid) -> Option<Node> {
        self.node(id).filter(|node| node.is_active())
    }

    /// Returns the ids of the lists of all tasks.
    pub(crate) fn list_ids(&self) -> impl Iterator<Item = Uuid> {
        let of_relatives = self.relatives.values().map(|relative| relative.node.list_id);
        self.tasks.values().map(|task| task.list_id).chain(of_relatives)
    }

    /// Returns the relatives that have changed.
    pub(crate) fn changed_relatives(&self) -> impl Iterator<Item = &Relative> {
        self.relatives.values().filter(|relative| relative.changes > 0)
    }

    /// Returns the level of a task, which is 1 at the top.
    pub(crate) fn level(&self, id: Uuid) -> usize {
        self.with_ancestors(id).count()
    }

    /// Returns a task and its ancestors, from the task to the top.
    pub(crate) fn with_ancestors(&self, id: Uuid) -> impl Iterator<Item = Uuid> {
        std::iter::successors(Some(id), |id| self.node(*id)?.parent_id)
    }

    /// Returns the descendants of a task level by level, each with its depth below the task.
    pub(crate) fn descendants(&self, id: Uuid) -> Vec<(Uuid, usize)> {
        let mut descendants = vec![(id, 0)];
        let mut next = 0;
        while let Some((parent, depth)) = descendants.get(next).copied() {
            let children = self.children.get(&parent).into_iter().flatten();
            descendants.extend(children.map(|child| (*child, depth + 1)));
            next += 1;
        }
        descendants.split_off(1)
    }

    /// Returns the active subtasks of a task, by id.
    pub(crate) fn active_children(&self, id: Uuid) -> Vec<Uuid> {
        let children = self.children.get(&id).into_iter().flatten().copied();
        let mut active: Vec<_> = children.filter(|child| self.active(*child).is_some()).collect();
        active.sort_unstable();
        active
    }

    /// Adds a task.
    pub(crate) fn insert(&mut self, task: TaskRow) {
        if let Some(parent) = task.parent_id {
            self.children.entry(parent).or_default().insert(task.id);
        }
        self.tasks.insert(task.id, task);
    }

    /// Changes a task that a write names, if there is one.
    pub(crate) fn change_task(&mut self, id: Uuid, change: impl FnOnce(&mut TaskRow)) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let old_parent = task.parent_id;
        change(task);
        if task.parent_id != old_parent {
            if let Some(children) = old_parent.and_then(|parent| self.children.get_mut(&parent)) {
                children.remove(&id);
            }
            if let Some(parent) = task.parent_id {
                self.children.entry(parent).or_default().insert(id);
            }
        }
    }

    /// Changes a relative, except its parent, and returns whether there is one.
    pub(crate) fn change_relative(&mut self, id: Uuid, change: impl FnOnce(&mut Node)) -> bool {
        let Some(relative) = self.relatives.get_mut(&id) else { return false };
        change(&mut relative.node);
        relative.changes += 1;
        true
    }
}
