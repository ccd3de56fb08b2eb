//! Deletes and restores tasks.

use uuid::Uuid;

use super::{MutationContext, WorkingSet, check_target, error::WriteError};
use crate::model::{Target, rank};

impl WorkingSet {
    pub(super) fn delete(&mut self, target: Target, allow_missing: bool) -> Result<Option<Uuid>, WriteError> {
        if allow_missing && !self.is_active(target.id) {
            return Ok(self.tree.task(target.id).map(|task| task.id));
        }
        let MutationContext { now, purge_time, .. } = self.context;
        self.active_task(target)?;
        let descendants = self.tree.descendants(target.id).into_iter().map(|(id, _)| id);
        for id in descendants.chain([target.id]).filter(|id| self.is_active(*id)).collect::<Vec<_>>() {
            self.change_node(id, |node| (node.delete_time, node.purge_time) = (Some(now), Some(purge_time)));
            self.active_delta -= 1;
        }
        Ok(Some(target.id))
    }

    pub(super) fn undelete(&mut self, index: usize, target: Target) -> Result<Uuid, WriteError> {
        let task = check_target(self.tree.task(target.id), target)?;
        let Some(delete_time) = task.delete_time else { return Ok(target.id) };
        let (list_id, parent_id) = (task.list_id, task.parent_id.filter(|id| self.is_active(*id)));
        let list_id = if self.lists.contains(&list_id) { list_id } else { self.context.owner };
        let deleted_together =
            |id: &Uuid| self.tree.node(*id).is_some_and(|node| node.delete_time == Some(delete_time));
        let descendants = self.tree.descendants(target.id).into_iter().map(|(id, _)| id);
        let descendants: Vec<_> = descendants.filter(deleted_together).collect();
        let is_moved = task.list_id != list_id || task.parent_id != parent_id;
        let last_rank = rank::last(self.context.sequence, index);
        self.change(target.id, |task| {
            (task.delete_time, task.purge_time) = (None, None);
            if is_moved {
                (task.parent_id, task.rank) = (parent_id, last_rank);
            }
        });
        self.active_delta += 1;
        for id in descendants {
            self.change_node(id, |node| (node.delete_time, node.purge_time) = (None, None));
            self.active_delta += 1;
        }
        self.set_list(target.id, list_id);
        Ok(target.id)
    }
}
