//! Changes random calls so that the model can predict them: they refer only to what exists before them, and tasks that
//! recur stay at the top level and have no subtasks. Other tests cover the subtasks of tasks that recur.

use std::collections::BTreeSet;

use super::{
    call::{Call, Fields, Number, Placement, Write},
    expected::ModelEngine,
    model::Model,
};

/// A number that no task or list has.
const UNUSED: Number = 9999;

impl ModelEngine {
    /// Returns the call without what the model cannot predict.
    pub(super) fn resolve(&self, call: Call) -> Call {
        let model = &self.model;
        let (task, list) = (|number| task(model, number), |number| list(model, number));
        match call {
            Call::Single(single, mode) => Call::Single(self.resolve_writes(vec![single]).remove(0), mode),
            Call::Batch(writes, mode) => Call::Batch(self.resolve_writes(writes), mode),
            Call::Undelete(id, etag) => Call::Undelete(task(id), etag),
            Call::RenameList(id, etag, title) => Call::RenameList(list(id), etag, title),
            Call::DeleteList(id, etag, to) => Call::DeleteList(list(id), etag, to.map(list)),
            call => call,
        }
    }

    fn resolve_writes(&self, writes: Vec<Write>) -> Vec<Write> {
        let writes: Vec<_> = writes.into_iter().map(|write| with_existing_numbers(&self.model, write)).collect();
        let is_single = writes.len() == 1;
        let recurring = self.recurring_after(&writes);
        let parents = self.parents_after(&writes);
        let mut completes = false;
        let mut resolve = |write| match write {
            Write::Create(fields, list, parent) => {
                let parent = parent.filter(|parent| !recurring.contains(parent));
                Write::Create(without_rule_if(parent.is_some(), fields), list, parent)
            }
            Write::Update(id, etag, fields, mask, scope) => {
                let is_subtask = self.model.tasks.get(id).is_some_and(|task| task.parent.is_some());
                Write::Update(id, etag, without_rule_if(is_subtask || parents.contains(&id), fields), mask, scope)
            }
            Write::Complete(id, etag, subtasks) => {
                completes |= recurring.contains(&id);
                Write::Complete(id, etag, subtasks)
            }
            Write::Move { id, etag, list, parent, placement } => {
                let parent = parent.filter(|parent| !recurring.contains(parent) && !recurring.contains(&id));
                let placement = match placement {
                    Placement::Before(anchor) | Placement::After(anchor)
                        if completes || (recurring.contains(&id) && !(is_single && self.is_at_top_level(anchor))) =>
                    {
                        Placement::Last
                    }
                    placement => placement,
                };
                Write::Move { id, etag, list, parent, placement }
            }
            write => write,
        };
        writes.into_iter().map(&mut resolve).collect()
    }

    /// Returns the tasks that recur, or that one of the writes may make recurring.
    fn recurring_after(&self, writes: &[Write]) -> BTreeSet<Number> {
        let updated = writes.iter().filter_map(|write| match write {
            Write::Update(id, _, fields, ..) if fields.rule.is_some() => Some(*id),
            _ => None,
        });
        let tasks = self.model.tasks.iter().enumerate();
        tasks.filter(|(_, task)| task.series.is_some()).map(|(number, _)| number).chain(updated).collect()
    }

    /// Returns the tasks that have subtasks, or to which one of the writes may add some.
    fn parents_after(&self, writes: &[Write]) -> BTreeSet<Number> {
        let named = writes.iter().filter_map(|write| match write {
            Write::Create(_, _, parent) | Write::Move { parent, .. } => *parent,
            _ => None,
        });
        let tasks = self.model.tasks.iter().filter(|task| task.exists(self.model.now));
        tasks.filter_map(|task| task.parent).chain(named).collect()
    }

    fn is_at_top_level(&self, number: Number) -> bool {
        self.model.tasks.get(number).is_some_and(|task| task.parent.is_none())
    }
}

fn without_rule_if(condition: bool, fields: Fields) -> Fields {
    Fields { rule: fields.rule.filter(|_| !condition), ..fields }
}

fn task(model: &Model, number: Number) -> Number {
    if number < model.tasks.len() { number } else { UNUSED }
}

fn list(model: &Model, number: Number) -> Number {
    if number < model.lists.len() { number } else { UNUSED }
}

/// Replaces numbers of tasks and lists that do not exist before the call, so that a call cannot refer to what it creates
/// itself.
fn with_existing_numbers(model: &Model, write: Write) -> Write {
    let (task, list) = (|number| task(model, number), |number| list(model, number));
    match write {
        Write::Create(fields, into, parent) => Write::Create(fields, into.map(list), parent.map(task)),
        Write::Update(id, etag, fields, mask, scope) => Write::Update(task(id), etag, fields, mask, scope),
        Write::Delete(id, etag, missing) => Write::Delete(task(id), etag, missing),
        Write::Complete(id, etag, subtasks) => Write::Complete(task(id), etag, subtasks),
        Write::Reopen(id, etag) => Write::Reopen(task(id), etag),
        Write::SkipOccurrence(id, etag) => Write::SkipOccurrence(task(id), etag),
        Write::StopRecurrence(id, etag) => Write::StopRecurrence(task(id), etag),
        Write::Move { id, etag, list: into, parent, placement } => {
            let into = into.map(list);
            let placement = match placement {
                Placement::Before(anchor) => Placement::Before(task(anchor)),
                Placement::After(anchor) => Placement::After(task(anchor)),
                placement => placement,
            };
            Write::Move { id: task(id), etag, list: into, parent: parent.map(task), placement }
        }
    }
}
