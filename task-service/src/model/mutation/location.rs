//! The location of tasks: their list, their parent, and their order among their siblings.

use std::ops::Bound::{Excluded, Unbounded};

use uuid::Uuid;

use super::{
    Scope, WorkingSet,
    error::{WriteError, invalid_field, unknown_list},
};
use crate::model::{
    rank,
    write::{Move, Position},
};

/// The greatest index of a rank in a mutation.
const LAST_INDEX: usize = 999;

/// Maximum number of levels of tasks and subtasks.
pub(crate) const MAX_LEVELS: usize = 5;

impl WorkingSet {
    /// Returns the scope for an optional list and an optional parent. An error has the path of the list or of the
    /// parent.
    pub(super) fn scope_for(
        &self,
        list: Option<Uuid>,
        parent: Option<Uuid>,
        [list_path, parent_path]: [&'static str; 2],
    ) -> Result<Scope, WriteError> {
        if list.is_some_and(|list| !self.lists.contains(&list)) {
            return Err(unknown_list(list_path));
        }
        let Some(parent_id) = parent else {
            return Ok(Scope { list_id: list.unwrap_or(self.context.owner), parent_id: None });
        };
        let parent = self
            .tree
            .active(parent_id)
            .ok_or_else(|| invalid_field(parent_path, "is not an active task of the caller"))?;
        if list.is_some_and(|list| list != parent.list_id) {
            return Err(invalid_field(parent_path, "is in another list"));
        }
        if self.tree.level(parent_id) >= MAX_LEVELS {
            return Err(invalid_field(parent_path, "is at level 5, and tasks have at most 5 levels"));
        }
        Ok(Scope { list_id: parent.list_id, parent_id: Some(parent_id) })
    }

    pub(super) fn move_task(&mut self, index: usize, task_move: &Move) -> Result<Uuid, WriteError> {
        let id = task_move.target.id;
        let task = self.active_task(task_move.target)?;
        let old_scope = Scope { list_id: task.list_id, parent_id: task.parent_id };
        let old_rank = task.rank.clone();
        let anchor = task_move.position.anchor();
        let scope = match (task_move.list_id, task_move.parent_id, anchor) {
            (None, None, None) => Scope { parent_id: None, ..old_scope },
            (None, None, Some((anchor, path))) => self.scope_of(anchor).ok_or_else(|| not_a_sibling(path))?,
            (list, parent, _) => self.scope_for(list, parent, ["list_id", "parent_id"])?,
        };
        // Without `parent_id`, the new parent is that of the anchor.
        let parent_path = anchor.filter(|_| task_move.parent_id.is_none()).map_or("parent_id", |(_, path)| path);
        self.check_move(id, scope, parent_path)?;
        if let Some((anchor, path)) = anchor
            && (anchor == id || self.scope_of(anchor) != Some(scope))
        {
            return Err(not_a_sibling(path));
        }
        if let Some(ranks) = self.ranks.get_mut(&old_scope.container_id()) {
            ranks.remove(&old_rank);
        }
        let rank = self.rank_for(index, scope, task_move.position)?;
        self.ranks.entry(scope.container_id()).or_default().insert(rank.clone(), id);
        self.change(id, |task| (task.parent_id, task.rank) = (scope.parent_id, rank));
        self.set_list(id, scope.list_id);
        Ok(id)
    }

    /// Moves a task and its descendants to a list.
    pub(super) fn set_list(&mut self, id: Uuid, list_id: Uuid) {
        if self.tree.node(id).is_some_and(|node| node.list_id == list_id) {
            return;
        }
        let descendants = self.tree.descendants(id).into_iter().map(|(id, _)| id);
        for id in descendants.chain([id]).collect::<Vec<_>>() {
            self.change_node(id, |node| node.list_id = list_id);
        }
    }

    /// Returns the scope of an active task.
    fn scope_of(&self, id: Uuid) -> Option<Scope> {
        let node = self.tree.active(id)?;
        Some(Scope { list_id: node.list_id, parent_id: node.parent_id })
    }

    /// Checks that a move makes no task its own ancestor, and does not exceed the maximum number of levels.
    fn check_move(&self, id: Uuid, scope: Scope, parent_path: &'static str) -> Result<(), WriteError> {
        let Some(parent_id) = scope.parent_id else { return Ok(()) };
        if self.tree.with_ancestors(parent_id).any(|ancestor| ancestor == id) {
            return Err(invalid_field(parent_path, "is the task itself or one of its subtasks"));
        }
        let height = self.tree.descendants(id).iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        if self.tree.level(parent_id) + 1 + height > MAX_LEVELS {
            return Err(invalid_field(parent_path, "would result in more than 5 levels"));
        }
        Ok(())
    }

    /// Returns a rank for a position. The rank of the moved task must have been removed from `ranks`.
    fn rank_for(&self, index: usize, scope: Scope, position: Position) -> Result<String, WriteError> {
        let sequence = self.context.sequence;
        let ranks = self.ranks.get(&scope.container_id());
        let rank_of = |id: Uuid| self.tree.task(id).map(|task| task.rank.clone()).unwrap_or_default();
        let rank = match position {
            Position::First => Some(rank::first(sequence, index)),
            Position::Last => Some(rank::last(sequence, index)),
            Position::Before(anchor) => {
                let high = rank_of(anchor);
                let low = ranks.and_then(|ranks| ranks.range(..high.clone()).next_back());
                low.map_or_else(|| Some(rank::first(sequence, index)), |(low, _)| rank::between(low, &high))
            }
            Position::After(anchor) => {
                let low = rank_of(anchor);
                let high = ranks.and_then(|ranks| ranks.range((Excluded(low.clone()), Unbounded)).next());
                match high {
                    Some((high, _)) => rank::between(&low, high),
                    None => Some(rank::last(sequence, index))
                        .filter(|last| *last > low)
                        // An earlier write of the batch has completed the anchor, which is after all others.
                        .or_else(|| rank::between(&low, &rank::last(sequence, LAST_INDEX))),
                }
            }
        };
        let path = position.anchor().map_or("id", |(_, path)| path);
        rank.ok_or_else(|| {
            invalid_field(path, "has no position left beside it after thousands of moves; move that task first")
        })
    }
}

fn not_a_sibling(path: &'static str) -> WriteError {
    invalid_field(path, "is not an active sibling at the new position")
}
