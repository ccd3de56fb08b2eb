//! The history of tasks. Mutations add entries in their transaction, and remove the oldest if there are too many.

use std::{collections::HashMap, time::Duration};

use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Engine, Error, QueryBuilder, Value},
};
use uuid::Uuid;

use super::rows::MAX_IDS;
use crate::model::{
    history::{FieldChange, changes, node_changes},
    mutation::{Actor, ChangedTask, MutationContext, WorkingSet},
};

pub(crate) mod pages;

/// How long entries are kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(400 * 24 * 3600);

/// Maximum size of the entries of an account. Older ones are deleted.
const MAX_BYTES: i64 = 16 * 1024 * 1024;

/// What an entry occupies besides its values.
const ENTRY_BYTES: i64 = 256;

/// The oldest entries of an account are deleted once for this size of new ones, so that most mutations delete none.
const TRIM_BYTES: i64 = 64 * 1024;

/// The number of entries of a task that remain when its oldest are deleted.
const MAX_TASK_ENTRIES: i64 = 1000;

/// The oldest entries of a task are deleted once for this number of revisions.
const TRIM_REVISIONS: i64 = 100;

/// Maximum number of rows that a statement inserts.
const MAX_ROWS: usize = 500;

const INSERT_INTO: &str = "
    insert into task_history (owner_id, change, task_id, field, change_time, actor_id, session_id, position, old_value,
        new_value)";

/// What the entries of a mutation have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryContext {
    pub(super) owner: Uuid,
    pub(super) now: Timestamp,
    pub(super) actor: Actor,
    /// The sequence number of the mutation.
    pub(super) sequence: i64,
    /// The size of all earlier entries of the owner.
    pub(super) position: i64,
}

impl EntryContext {
    pub(super) fn new(mutation: MutationContext, position: i64) -> Self {
        let MutationContext { owner, now, actor, sequence, .. } = mutation;
        Self { owner, now, actor, sequence: sequence.0, position }
    }
}

/// The entries of a mutation for the tasks that its writes name.
pub(super) struct Entries {
    pub(super) rows: Vec<Vec<Value>>,
    /// The size of the entries.
    pub(super) bytes: i64,
    /// The size of their values alone.
    pub(super) value_bytes: i64,
    /// The tasks that may have too many entries.
    long_tasks: Vec<Uuid>,
}

impl Entries {
    pub(super) fn new<'t>(context: EntryContext, tasks: impl Iterator<Item = ChangedTask<'t>>) -> Self {
        let EntryContext { owner, now, actor, sequence, position } = context;
        let mut entries = Self { rows: Vec::new(), bytes: 0, value_bytes: 0, long_tasks: Vec::new() };
        for task in tasks {
            let id = task.after.id;
            entries.long_tasks.extend(may_be_long(task).then_some(id));
            for change in changes(task) {
                let bytes = entry_bytes(&change);
                entries.bytes += bytes;
                entries.value_bytes += bytes - ENTRY_BYTES;
                let FieldChange { field, old_value, new_value } = change;
                entries.rows.push(args![
                    owner,
                    sequence,
                    id,
                    field,
                    now,
                    actor.id,
                    actor.session_id,
                    position,
                    old_value,
                    new_value
                ]);
            }
        }
        entries
    }

    /// Reports whether the mutation only adds entries, and has nothing to do for the limits.
    pub(super) fn is_addition(&self, position: i64) -> bool {
        self.bytes == 0 || (position > 0 && self.long_tasks.is_empty() && !is_trim_due(position, self.bytes))
    }
}

fn entry_bytes(change: &FieldChange) -> i64 {
    let values = change.old_value.len() + change.new_value.len();
    ENTRY_BYTES.saturating_add_unsigned(values as u64)
}

/// Reports whether a task may have too many entries.
fn may_be_long(task: ChangedTask<'_>) -> bool {
    let before = task.before.map_or(0, |before| before.revision.0);
    before / TRIM_REVISIONS < task.after.revision.0 / TRIM_REVISIONS
}

fn is_trim_due(position: i64, added: i64) -> bool {
    let end = position + added;
    end > MAX_BYTES && position / TRIM_BYTES < end / TRIM_BYTES
}

/// Adds the entries of a mutation, and returns their size. `position` is the size of all earlier entries of the owner.
///
/// # Errors
/// Those of the database.
pub(super) async fn store(conn: &mut Conn, working_set: &WorkingSet, position: i64) -> Result<i64, Error> {
    const TRIM: &str = "
        delete from task_history where owner_id = $1 and task_id = $2 and change < (
            select change from task_history where owner_id = $1 and task_id = $2
            order by change desc, field desc limit 1 offset $3)";
    let context = EntryContext::new(working_set.context, position);
    let entries = Entries::new(context, working_set.changed_tasks());
    insert(conn, entries.rows).await?;
    for task in entries.long_tasks {
        conn.execute_for_counted_rows(TRIM, args![context.owner, task, MAX_TASK_ENTRIES]).await?;
    }
    Ok(entries.bytes + store_relatives(conn, context, working_set).await?)
}

/// Inserts entries of any owners.
///
/// # Errors
/// Those of the database.
pub(super) async fn insert(conn: &mut Conn, rows: Vec<Vec<Value>>) -> Result<(), Error> {
    const INSERT_ONE: &str = "
        insert into task_history (owner_id, change, task_id, field, change_time, actor_id, session_id, position,
            old_value, new_value)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    const INSERT_ARRAYS: &str = "
        insert into task_history (owner_id, change, task_id, field, change_time, actor_id, session_id, position,
            old_value, new_value)
        select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::uuid[],
            $8::bigint[], $9::text[], $10::text[])";
    let mut rows = rows.into_iter();
    while let Some(first) = rows.next() {
        let (sql, values) = match (conn.engine(), rows.len()) {
            (Engine::Sqlite, 0) => (INSERT_ONE.into(), first),
            (Engine::Sqlite, more) => {
                let mut insert = QueryBuilder::new(INSERT_INTO);
                insert.push_values([first].into_iter().chain(rows.by_ref().take(MAX_ROWS - 1)));
                // Most mutations change few fields.
                insert.build_with_cache(more < 4)
            }
            (Engine::Postgres, _) => {
                (INSERT_ARRAYS.into(), Value::arrays([first].into_iter().chain(rows.by_ref()).collect()))
            }
        };
        conn.execute_for_counted_rows(sql, values).await?;
    }
    Ok(())
}

/// Adds the entries of the changed relatives: of those that have changed alike with one statement.
async fn store_relatives(conn: &mut Conn, context: EntryContext, working_set: &WorkingSet) -> Result<i64, Error> {
    let mut alike: HashMap<FieldChange, Vec<Uuid>> = HashMap::new();
    for relative in working_set.tree.changed_relatives() {
        for change in node_changes(relative.before, relative.node) {
            alike.entry(change).or_default().push(relative.id);
        }
    }
    let mut bytes = 0;
    for (change, ids) in alike {
        for ids in ids.chunks(MAX_IDS) {
            let mut insert = insert_selected(context, &change);
            insert.push(" and id in ").push_ids(ids.iter().copied());
            bytes += execute(conn, insert, &change).await?;
        }
    }
    Ok(bytes)
}

/// Adds an entry for each task of a list, or for each active one, and returns their size. Without a change, adds none.
///
/// # Errors
/// Those of the database.
pub(super) async fn store_for_list(
    conn: &mut Conn,
    context: EntryContext,
    change: Option<FieldChange>,
    list: Uuid,
    only_active: bool,
) -> Result<i64, Error> {
    let Some(change) = change else { return Ok(0) };
    let mut insert = insert_selected(context, &change);
    insert.push(" and list_id = ").push_bind(list);
    if only_active {
        insert.push(" and delete_time is null");
    }
    execute(conn, insert, &change).await
}

/// Returns the beginning of a statement that adds an entry for each task of the owner that the rest selects.
fn insert_selected(context: EntryContext, change: &FieldChange) -> QueryBuilder {
    let EntryContext { owner, now, actor, sequence, position } = context;
    let mut insert = QueryBuilder::new(INSERT_INTO);
    insert.push(" select owner_id, ").push_bind(sequence).push(", id, ").push_bind(change.field);
    insert.push(", ").push_bind(now).push(", ").push_bind(actor.id).push(", ").push_bind(actor.session_id);
    insert.push(", ").push_bind(position).push(", ").push_bind(&change.old_value);
    insert.push(", ").push_bind(&change.new_value).push(" from tasks where owner_id = ").push_bind(owner);
    insert
}

/// Adds entries with this change, and returns their size.
async fn execute(conn: &mut Conn, insert: QueryBuilder, change: &FieldChange) -> Result<i64, Error> {
    let (sql, values) = insert.build();
    Ok(conn.execute_for_counted_rows(sql, values).await?.cast_signed() * entry_bytes(change))
}

/// Deletes the oldest entries of an owner if there are too many, after entries of the size `added` have been added at
/// `position`. Stores when the first entry expires.
///
/// # Errors
/// Those of the database.
pub(super) async fn enforce_limits(
    conn: &mut Conn,
    owner: Uuid,
    now: Timestamp,
    position: i64,
    added: i64,
) -> Result<(), Error> {
    const SCHEDULE: &str = "update owners set history_due = $2 where owner_id = $1";
    const FIRST_TO_KEEP: &str = "
        select change from task_history where owner_id = $1 and position >= $2 order by change limit 1";
    const DELETE: &str = "delete from task_history where owner_id = $1 and change < $2";
    if position == 0 && added > 0 {
        conn.execute_for_counted_rows(SCHEDULE, args![owner, now + RETENTION]).await?;
    }
    if is_trim_due(position, added) {
        let oldest = args![owner, position + added - MAX_BYTES];
        if let Some(change) = conn.fetch_optional::<i64>(FIRST_TO_KEEP, oldest).await? {
            conn.execute_for_counted_rows(DELETE, args![owner, change]).await?;
        }
    }
    Ok(())
}

/// Deletes at most `limit` entries of the `limit` tasks that are due for the purge first, and returns their number.
///
/// # Errors
/// Those of the database.
pub(crate) async fn delete_of_due_tasks(conn: &mut Conn, now: Timestamp, limit: i64) -> Result<u64, Error> {
    const DELETE: &str = "
        delete from task_history where (owner_id, change, task_id, field) in (
            select entry.owner_id, entry.change, entry.task_id, entry.field
            from (select owner_id, id from tasks where purge_time <= $1 order by purge_time, owner_id, id limit $2) due
            join task_history entry on entry.owner_id = due.owner_id and entry.task_id = due.id
            limit $2)";
    conn.execute_for_counted_rows(DELETE, args![now, limit]).await
}

/// Deletes at most `limit` entries of tasks of an owner, and returns their number.
///
/// # Errors
/// Those of the database.
pub(super) async fn delete_of_tasks(conn: &mut Conn, owner: Uuid, tasks: &[Uuid], limit: i64) -> Result<u64, Error> {
    let mut delete = QueryBuilder::new("delete from task_history where owner_id = ");
    delete.push_bind(owner).push(" and (change, task_id, field) in (select change, task_id, field from task_history");
    delete.push(" where owner_id = ").push_bind(owner).push(" and task_id in ").push_ids(tasks.iter().copied());
    delete.push(" limit ").push_bind(limit).push(")");
    let (sql, values) = delete.build_with_cache(tasks.len() == 1);
    conn.execute_for_counted_rows(sql, values).await
}
