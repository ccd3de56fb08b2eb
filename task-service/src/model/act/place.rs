//! Where tasks are: in which list, a part of which task, and in what order among their siblings.

use std::{
    collections::HashMap,
    ops::Bound::{Excluded, Unbounded},
};

use uuid::Uuid;

use super::{Blame, Scope, WorkingSet, no_list, wrong};
use crate::model::{
    rank,
    write::{Move, Position},
};

/// How many levels tasks and their parts may have in all.
const MAX_LEVELS: usize = 5;

impl WorkingSet {
    /// Where a task goes that names this list and this parent, of which either may be left out.
    pub(super) fn place_for(
        &self,
        list: Option<Uuid>,
        parent: Option<Uuid>,
        paths: [&'static str; 2],
    ) -> Result<Scope, Blame> {
        let [list_path, parent_path] = paths;
        if list.is_some_and(|list| !self.lists.contains(&list)) {
            return Err(no_list(list_path));
        }
        let Some(parent_id) = parent else {
            return Ok(Scope { list_id: list.unwrap_or(self.context.owner), parent_id: None });
        };
        let parent = self.tasks.get(&parent_id).filter(|task| task.delete_time.is_none());
        let parent = parent.ok_or_else(|| wrong(parent_path, "is no live task of the caller"))?;
        if list.is_some_and(|list| list != parent.list_id) {
            return Err(wrong(parent_path, "is in another list"));
        }
        if self.level(parent_id) >= MAX_LEVELS {
            return Err(wrong(parent_path, "is at the fifth level, which is the last"));
        }
        Ok(Scope { list_id: parent.list_id, parent_id: Some(parent_id) })
    }

    /// The level of a task, from 1 at the top.
    fn level(&self, id: Uuid) -> usize {
        self.upwards(id).count()
    }

    /// A task and those that it is a part of.
    fn upwards(&self, id: Uuid) -> impl Iterator<Item = Uuid> {
        let parent = |id: &Uuid| self.tasks.get(id).and_then(|task| task.parent_id);
        std::iter::successors(Some(id), parent)
    }

    /// Those that are a part of a task, level by level, each with its level below it.
    pub(super) fn parts(&self, id: Uuid) -> Vec<(Uuid, usize)> {
        let mut children: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
        for task in self.tasks.values() {
            if let Some(parent) = task.parent_id {
                children.entry(parent).or_default().push(task.id);
            }
        }
        let mut parts = vec![(id, 0)];
        let mut next = 0;
        while let Some((parent, level)) = parts.get(next).copied() {
            parts.extend(children.remove(&parent).into_iter().flatten().map(|child| (child, level + 1)));
            next += 1;
        }
        parts.split_off(1)
    }

    pub(super) fn move_task(&mut self, number: usize, order: &Move) -> Result<Uuid, Blame> {
        let id = order.target.id;
        let task = self.live(order.target)?;
        let here = Scope { list_id: task.list_id, parent_id: task.parent_id };
        let (from, old_rank) = (here, task.rank.clone());
        let anchor = order.position.anchor();
        let scope = match (order.list_id, order.parent_id, anchor) {
            (None, None, None) => Scope { parent_id: None, ..here },
            (None, None, Some((anchor, path))) => self.scope_of(anchor).ok_or_else(|| no_sibling(path))?,
            (list, parent, _) => self.place_for(list, parent, ["list_id", "parent_id"])?,
        };
        let path = anchor.filter(|_| order.parent_id.is_none()).map_or("parent_id", |(_, path)| path);
        self.check_move(id, scope, path)?;
        if let Some((anchor, path)) = anchor
            && (anchor == id || self.scope_of(anchor) != Some(scope))
        {
            return Err(no_sibling(path));
        }
        if let Some(ranks) = self.ranks.get_mut(&from.holder()) {
            ranks.remove(&old_rank);
        }
        let rank = self.rank_for(number, scope, order.position)?;
        self.ranks.entry(scope.holder()).or_default().insert(rank.clone(), id);
        self.change(id, |task| (task.parent_id, task.rank) = (scope.parent_id, rank));
        self.set_list(id, scope.list_id);
        Ok(id)
    }

    /// The place of a live task.
    fn scope_of(&self, id: Uuid) -> Option<Scope> {
        let task = self.tasks.get(&id).filter(|task| task.delete_time.is_none())?;
        Some(Scope { list_id: task.list_id, parent_id: task.parent_id })
    }

    /// A task cannot become a part of itself, nor lead to more levels than there may be.
    fn check_move(&self, id: Uuid, to: Scope, path: &'static str) -> Result<(), Blame> {
        let Some(parent_id) = to.parent_id else { return Ok(()) };
        if self.upwards(parent_id).any(|above| above == id) {
            return Err(wrong(path, "is the task itself, or a part of it"));
        }
        let height = self.parts(id).iter().map(|(_, level)| *level).max().unwrap_or(0);
        if self.level(parent_id) + 1 + height > MAX_LEVELS {
            return Err(wrong(path, "would lead to more than 5 levels"));
        }
        Ok(())
    }

    fn rank_for(&self, number: usize, scope: Scope, position: Position) -> Result<String, Blame> {
        let place = self.context.place;
        let ranks = self.ranks.get(&scope.holder());
        let own = |id: Uuid| self.tasks.get(&id).map(|task| task.rank.clone()).unwrap_or_default();
        let between = match position {
            Position::First => Some(rank::first(place, number)),
            Position::Last => Some(rank::last(place, number)),
            Position::Before(anchor) => {
                let high = own(anchor);
                let low = ranks.and_then(|ranks| ranks.range(..high.clone()).next_back());
                low.map_or_else(|| Some(rank::first(place, number)), |(low, _)| rank::between(low, &high))
            }
            Position::After(anchor) => {
                let low = own(anchor);
                let high = ranks.and_then(|ranks| ranks.range((Excluded(low.clone()), Unbounded)).next());
                high.map_or_else(|| Some(rank::last(place, number)), |(high, _)| rank::between(&low, high))
            }
        };
        let path = position.anchor().map_or("id", |(_, path)| path);
        between.ok_or_else(|| wrong(path, "has no more room beside it, after thousands of moves; move it first"))
    }
}

fn no_sibling(path: &'static str) -> Blame {
    wrong(path, "is no live sibling at that place")
}
