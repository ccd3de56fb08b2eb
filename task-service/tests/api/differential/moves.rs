//! The model: where tasks are, and what moves them.

use super::{
    call::{Etag, Number, Place},
    model::{Family, Reason, Task, World},
};

const MAX_LEVELS: usize = 5;

impl World {
    fn level(&self, number: Number) -> usize {
        1 + self.tasks[number].parent.map_or(0, |parent| self.level(parent))
    }

    /// How many levels there are from a task on.
    fn height(&self, number: Number) -> usize {
        let children = (0..self.tasks.len())
            .filter(|child| self.tasks[*child].parent == Some(number) && self.tasks[*child].is_there(self.now));
        1 + children.map(|child| self.height(child)).max().unwrap_or(0)
    }

    /// Takes a task out of its family and puts it into one, before that index.
    fn place(&mut self, number: Number, family: Family, index: usize) {
        for siblings in self.families.values_mut() {
            siblings.retain(|sibling| *sibling != number);
        }
        self.families.entry(family).or_default().insert(index, number);
    }

    pub(super) fn place_last(&mut self, number: Number, family: Family) {
        let others = self.families.get(&family).into_iter().flatten().filter(|sibling| **sibling != number).count();
        self.place(number, family, others);
    }

    /// The list that a task of so many levels goes into.
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
        let fits = self.is_live(parent)
            && list.is_none_or(|list| list == self.tasks[parent].list)
            && self.level(parent) + height <= MAX_LEVELS;
        if fits { Ok(self.tasks[parent].list) } else { Err("VALIDATION_FAILED") }
    }

    pub(super) fn move_task(
        &mut self,
        id: Number,
        task: &Task,
        list: Option<Number>,
        parent: Option<Number>,
        place: Place,
    ) -> Result<(), Reason> {
        // One that says nothing stays in its list, or goes where that is which it goes beside.
        let (list, parent) = match (list, parent, place) {
            (None, None, Place::Before(anchor) | Place::After(anchor)) => {
                let anchor = self.tasks.get(anchor).filter(|anchor| anchor.is_live()).ok_or("VALIDATION_FAILED")?;
                (Some(anchor.list), anchor.parent)
            }
            (None, None, _) => (Some(task.list), None),
            place => (place.0, place.1),
        };
        let list = self.list_for(list, parent, self.height(id))?;
        if parent.is_some_and(|parent| parent == id || self.parts(id).contains(&parent)) {
            return Err("VALIDATION_FAILED");
        }
        let family = parent.map_or(Family::Top(list), Family::Under);
        let siblings = self.families.get(&family).into_iter().flatten().copied().filter(|sibling| *sibling != id);
        let siblings: Vec<_> = siblings.collect();
        let beside = |anchor| siblings.iter().position(|sibling| *sibling == anchor && self.is_live(*sibling));
        let index = match place {
            Place::First => 0,
            Place::Last | Place::Unsaid => siblings.len(),
            Place::Before(anchor) => beside(anchor).ok_or("VALIDATION_FAILED")?,
            Place::After(anchor) => 1 + beside(anchor).ok_or("VALIDATION_FAILED")?,
        };
        self.place(id, family, index);
        self.touch(id).parent = parent;
        for part in [vec![id], self.parts(id)].concat() {
            if self.tasks[part].list != list {
                self.touch(part).list = list;
            }
        }
        Ok(())
    }

    pub(super) fn drop_list(&mut self, id: Number, etag: Etag, to: Option<Number>) -> Result<(), Reason> {
        let list = self.lists.get(id).filter(|list| list.is_there).ok_or("LIST_NOT_FOUND")?;
        if id == 0 {
            return Err("DEFAULT_LIST");
        }
        if matches!(etag, Etag::Foreign) || (matches!(etag, Etag::First) && list.version > 0) {
            return Err("ETAG_MISMATCH");
        }
        if to.is_some_and(|to| !self.has_list(to)) {
            return Err("LIST_NOT_FOUND");
        }
        self.lists[id].is_there = false;
        for number in (0..self.tasks.len()).filter(|number| self.tasks[*number].list == id).collect::<Vec<_>>() {
            match to {
                Some(to) => self.touch(number).list = to,
                None if self.is_live(number) => self.touch(number).delete_time = Some(self.now),
                None => {}
            }
        }
        if let Some(to) = to {
            let moved = self.families.remove(&Family::Top(id)).unwrap_or_default();
            self.families.entry(Family::Top(to)).or_default().extend(moved);
        }
        Ok(())
    }
}
