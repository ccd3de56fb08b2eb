//! Moves and list deletions in the model.

use super::{
    call::{Etag, Number, Placement},
    model::{Model, Reason, SiblingGroup, Task},
};

const MAX_LEVELS: usize = 5;

impl Model {
    fn level(&self, number: Number) -> usize {
        1 + self.tasks[number].parent.map_or(0, |parent| self.level(parent))
    }

    /// Returns the number of levels of a task's subtree, including the task.
    fn height(&self, number: Number) -> usize {
        let children = (0..self.tasks.len())
            .filter(|child| self.tasks[*child].parent == Some(number) && self.tasks[*child].exists(self.now));
        1 + children.map(|child| self.height(child)).max().unwrap_or(0)
    }

    /// Moves a task to this index among these siblings.
    pub(super) fn insert_at(&mut self, number: Number, group: SiblingGroup, index: usize) {
        for siblings in self.sibling_groups.values_mut() {
            siblings.retain(|sibling| *sibling != number);
        }
        self.completed_last.remove(&number);
        self.sibling_groups.entry(group).or_default().insert(index, number);
    }

    /// Moves a task to the end of these siblings, before the occurrences that the same call has completed.
    pub(super) fn insert_last(&mut self, number: Number, group: SiblingGroup) {
        let siblings: Vec<_> = self.sibling_groups.get(&group).into_iter().flatten().copied().collect();
        let others: Vec<_> = siblings.into_iter().filter(|sibling| *sibling != number).collect();
        let completed = others.iter().rev().take_while(|sibling| self.completed_last.contains(sibling)).count();
        self.insert_at(number, group, others.len() - completed);
    }

    /// Returns the list for a subtree of this height. Fails if the list or the parent is invalid.
    pub(super) fn list_for(
        &self,
        list: Option<Number>,
        parent: Option<Number>,
        height: usize,
    ) -> Result<Number, Reason> {
        if list.is_some_and(|list| !self.has_list(list)) {
            return Err("LIST_NOT_FOUND");
        }
        let Some(parent) = parent else { return Ok(list.unwrap_or(0)) };
        let is_valid = self.is_active(parent)
            && list.is_none_or(|list| list == self.tasks[parent].list)
            && self.level(parent) + height <= MAX_LEVELS;
        if is_valid { Ok(self.tasks[parent].list) } else { Err("VALIDATION_FAILED") }
    }

    pub(super) fn move_task(
        &mut self,
        id: Number,
        task: &Task,
        list: Option<Number>,
        parent: Option<Number>,
        placement: Placement,
    ) -> Result<(), Reason> {
        // Without list and parent, the anchor determines both; without an anchor, the task stays in its list.
        let (list, parent) = match (list, parent, placement) {
            (None, None, Placement::Before(anchor) | Placement::After(anchor)) => {
                let anchor = self.tasks.get(anchor).filter(|anchor| anchor.is_active()).ok_or("VALIDATION_FAILED")?;
                (Some(anchor.list), anchor.parent)
            }
            (None, None, _) => (Some(task.list), None),
            target => (target.0, target.1),
        };
        let list = self.list_for(list, parent, self.height(id))?;
        if parent.is_some_and(|parent| parent == id || self.subtasks(id).contains(&parent)) {
            return Err("VALIDATION_FAILED");
        }
        let group = parent.map_or(SiblingGroup::TopLevel(list), SiblingGroup::SubtasksOf);
        let siblings = self.sibling_groups.get(&group).into_iter().flatten().copied().filter(|sibling| *sibling != id);
        let siblings: Vec<_> = siblings.collect();
        let index_of = |anchor| siblings.iter().position(|sibling| *sibling == anchor && self.is_active(*sibling));
        let index = match placement {
            Placement::First => Some(0),
            Placement::Last | Placement::Unspecified => None,
            Placement::Before(anchor) => Some(index_of(anchor).ok_or("VALIDATION_FAILED")?),
            Placement::After(anchor) => Some(1 + index_of(anchor).ok_or("VALIDATION_FAILED")?),
        };
        match index {
            Some(index) => self.insert_at(id, group, index),
            None => self.insert_last(id, group),
        }
        self.touch(id).parent = parent;
        for subtask in [vec![id], self.subtasks(id)].concat() {
            if self.tasks[subtask].list != list {
                self.touch(subtask).list = list;
            }
        }
        Ok(())
    }

    pub(super) fn delete_list(&mut self, id: Number, etag: Etag, to: Option<Number>) -> Result<(), Reason> {
        let list = self.lists.get(id).filter(|list| list.exists).ok_or("LIST_NOT_FOUND")?;
        if id == 0 {
            return Err("DEFAULT_LIST");
        }
        if matches!(etag, Etag::Invalid) || (matches!(etag, Etag::Initial) && list.version > 0) {
            return Err("ETAG_MISMATCH");
        }
        if to.is_some_and(|to| !self.has_list(to)) {
            return Err("LIST_NOT_FOUND");
        }
        self.lists[id].exists = false;
        for number in (0..self.tasks.len()).filter(|number| self.tasks[*number].list == id).collect::<Vec<_>>() {
            match to {
                Some(to) => self.touch(number).list = to,
                None if self.is_active(number) => self.touch(number).delete_time = Some(self.now),
                None => {}
            }
        }
        if let Some(to) = to {
            let moved = self.sibling_groups.remove(&SiblingGroup::TopLevel(id)).unwrap_or_default();
            self.sibling_groups.entry(SiblingGroup::TopLevel(to)).or_default().extend(moved);
        }
        Ok(())
    }
}
