//! Mutations of an owner's tasks. Each is one transaction: it reads the owner's counter and the tasks that it needs,
//! applies the writes in the model, and stores the changed tasks, the counter and, if the request has an id, the
//! response.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use service_kit::{
    clock::Timestamp,
    db::{self, Conn, Db, QueryBuilder},
    status::ApiError,
};
use uuid::Uuid;

use super::{
    epoch, history,
    import::find_sources,
    owner_queue::OwnerQueue,
    read_set::{ReadSet, read_lists, read_ranks, read_taken, read_tasks},
    reminder_queue,
    rows::{MAX_IDS, store_tasks},
    storage_limits::{Excess, purge_excess},
    transaction::{
        CounterChange, NotCommitted, Outcome, begin_mutation, check_request, count_mutation, outcome, store_response,
    },
};
use crate::{
    model::{
        TaskRow,
        mutation::{Actor, MutationContext, Relative, WorkingSet},
        rank::SequenceNumber,
        recurrence::SearchBudget,
        write::Write,
    },
    request::{batch, options::WriteOptions},
};

/// Maximum number of rows that a statement inserts: engines limit the number of arguments.
const MAX_ROWS: usize = 500;

/// Maximum size of the titles and notes in one statement, unless it writes a single task. Folding texts for searches
/// occupies the thread until the statement is executed, and some characters become 18 when they are folded. On
/// `PostgreSQL`, other calls need the thread.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// The channel on which replicas are notified of mutations.
pub(crate) const CHANNEL: &str = "taskey_tasks";

/// Sends a notification to all replicas.
///
/// # Errors
/// Those of the database.
pub(crate) async fn notify(db: &Db, payload: String) -> Result<(), db::Error> {
    db.write(|conn| Box::pin(async move { conn.notify_with(CHANNEL, &payload).await })).await
}

/// The task of each write, as it is after the write, or `None` if the task is missing and the write allows that.
pub(crate) type Rows = Vec<Option<TaskRow>>;

/// Encodes the response to a mutation.
pub(crate) type Encode = Arc<dyn Fn(&[Option<TaskRow>]) -> Vec<u8> + Send + Sync>;

/// Writes of an owner, of which either all take effect or none.
#[derive(Clone)]
pub(crate) struct Mutation {
    pub(crate) owner: Uuid,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
    pub(crate) purge_time: Timestamp,
    pub(crate) max_tasks: i64,
    /// Maximum number of deleted tasks, if there are `max_tasks` active ones, and of tombstones.
    pub(crate) max_deleted: i64,
    pub(crate) options: WriteOptions,
    pub(crate) writes: Vec<Write>,
    /// The path prefix of each write of a batch. Empty for a single write.
    pub(crate) prefixes: Vec<String>,
    /// One id for each write, for the task that it creates, if any.
    pub(crate) new_ids: Vec<Uuid>,
    /// Encodes the response, so that it can be replayed.
    pub(crate) encode: Encode,
}

/// Executes a mutation.
///
/// # Errors
/// The error of the first write that fails, with its path; QUOTA_EXCEEDED; REQUEST_ID_REUSED; those of the database.
pub(crate) async fn execute(db: &Db, queue: &OwnerQueue, mutation: Mutation) -> Result<Outcome<Rows>, ApiError> {
    let owner = mutation.owner;
    outcome(queue.write_after_checks(db, owner, |conn| Box::pin(execute_within(conn, mutation))).await)
}

/// Executes a mutation within a transaction.
///
/// # Errors
/// If the transaction must be rolled back: it failed, was executed before, is a dry run, or changes nothing.
pub(super) async fn execute_within(conn: &mut Conn, mutation: Mutation) -> Result<Rows, NotCommitted<Rows>> {
    let Mutation {
        owner,
        actor,
        now,
        purge_time,
        max_tasks,
        max_deleted,
        options,
        mut writes,
        prefixes,
        new_ids,
        encode,
    } = mutation;
    let read_set = ReadSet::from_writes(owner, &writes);
    let counter = begin_mutation(conn, owner, read_set.create_count, now).await?;
    check_request(conn, owner, now, &options).await?;
    epoch::check_etags(conn, writes.iter_mut().filter_map(Write::target_mut).collect()).await?;

    let tree = read_tasks(conn, owner, now, &read_set).await?;
    let lists = read_lists(conn, owner, &read_set, &tree).await?;
    let ranks = read_ranks(conn, owner, &read_set, &tree, &lists).await?;
    let taken = read_taken(conn, owner, &read_set.chosen).await?;
    let taken_sources = find_sources(conn, owner, &read_set.sources).await?.into_keys().collect();
    let context = MutationContext { owner, actor, now, purge_time, sequence: SequenceNumber(counter.sequence) };
    // `active_tasks` already includes the tasks to create.
    let max_active_delta = max_tasks - (counter.active_tasks - read_set.create_count);
    let mut working_set = WorkingSet {
        context,
        tree,
        lists,
        ranks,
        changed: BTreeMap::new(),
        taken,
        taken_sources,
        active_delta: 0,
        max_active_delta,
        next_tasks: 0,
        searches: SearchBudget::default(),
    };
    let rows = apply(&mut working_set, writes, &prefixes, &new_ids)?;

    if options.validate_only || (!working_set.has_changes() && options.request.is_none()) {
        return Err(NotCommitted::NothingToCommit(rows));
    }
    // From here on, only bugs fail, see `Db::write_after_checks`.
    let response = options.request.as_ref().map(|_| encode(&rows)).unwrap_or_default();
    store_changes(conn, &working_set).await?;
    let position = counter.history_bytes;
    let history_bytes = history::store(conn, &working_set, position).await?;
    let task_rows = i64::try_from(working_set.next_tasks).unwrap_or(i64::MAX);
    let active_tasks = working_set.active_delta - read_set.create_count;
    let change = CounterChange { active_tasks, task_rows, history_bytes };
    count_mutation(conn, owner, read_set.create_count, now, counter, change).await?;
    if reminder_queue::concerns(&working_set) {
        reminder_queue::schedule(conn, vec![owner]).await?;
    }
    history::enforce_limits(conn, owner, now, position, history_bytes).await?;
    let excess = Excess {
        tasks: counter.task_rows + task_rows - max_tasks - max_deleted,
        tombstones: counter.tombstones - max_deleted,
    };
    purge_excess(conn, owner, now, counter.sequence, excess).await?;
    store_response(conn, owner, now, options, || response).await?;
    Ok(rows)
}

/// Applies the writes one after the other. An error has the path of the write that failed.
pub(super) fn apply(
    working_set: &mut WorkingSet,
    writes: Vec<Write>,
    prefixes: &[String],
    new_ids: &[Uuid],
) -> Result<Vec<Option<TaskRow>>, ApiError> {
    let mut rows = Vec::with_capacity(writes.len());
    for (index, (write, new_id)) in writes.into_iter().zip(new_ids).enumerate() {
        let id_path = match write {
            Write::Create(_) => "task",
            Write::Update(_) => "task.id",
            _ => "id",
        };
        match working_set.apply(index, write, *new_id) {
            Ok(row) => rows.push(row),
            Err(error) => {
                return Err(match prefixes.get(index) {
                    None => error.into_api_error("", None),
                    Some(prefix) => batch::with_write_index(error.into_api_error(prefix, Some(id_path)), index),
                });
            }
        }
    }
    Ok(rows)
}

/// Writes the changed tasks, including created ones.
async fn store_changes(conn: &mut Conn, working_set: &WorkingSet) -> Result<(), db::Error> {
    let (created, updated): (Vec<_>, Vec<_>) = working_set.changed_tasks().partition(|task| task.before.is_none());
    for tasks in [created, updated].into_iter().flat_map(|tasks| split_by_size(tasks, |task| task.after)) {
        for (index, (sql, values)) in store_tasks(conn.engine(), &tasks).into_iter().enumerate() {
            match index {
                0 => conn.execute(sql, values).await?,
                _ => conn.execute_for_counted_rows(sql, values).await?,
            };
        }
    }
    store_relatives(conn, working_set).await
}

/// Splits tasks into groups that are written by one statement each.
pub(super) fn split_by_size<'t, T>(tasks: Vec<T>, row: impl Fn(&T) -> &'t TaskRow) -> Vec<Vec<T>> {
    let (mut groups, mut bytes): (Vec<Vec<_>>, _) = (Vec::new(), 0);
    for task in tasks {
        let size = row(&task).title.len() + row(&task).notes.len();
        match groups.last_mut() {
            Some(group) if group.len() < MAX_ROWS && bytes + size <= MAX_TEXT_BYTES => group.push(task),
            _ => {
                groups.push(vec![task]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    groups
}

/// Writes the changed relatives: those that have changed alike with one statement, which does not read their texts.
async fn store_relatives(conn: &mut Conn, working_set: &WorkingSet) -> Result<(), db::Error> {
    let MutationContext { owner, now, sequence, .. } = working_set.context;
    let mut changes: HashMap<_, Vec<Uuid>> = HashMap::new();
    for Relative { id, node, changes: count, .. } in working_set.tree.changed_relatives() {
        let key = (node.list_id, node.complete_time, node.delete_time, node.purge_time, *count);
        changes.entry(key).or_default().push(*id);
    }
    for ((list_id, complete_time, delete_time, purge_time, count), ids) in changes {
        for ids in ids.chunks(MAX_IDS) {
            let mut update = QueryBuilder::new("update tasks set list_id = ");
            update.push_bind(list_id).push(", complete_time = ").push_bind(complete_time);
            update.push(", delete_time = ").push_bind(delete_time);
            update.push(", purge_time = ").push_bind(purge_time).push(", change = ").push_bind(sequence.0);
            // As in `later`, update times never decrease.
            update.push(", update_time = case when update_time >= ").push_bind(now);
            update.push(" then update_time + 1 else ").push_bind(now).push(" end");
            update.push(", revision = revision + ").push_bind(count);
            update.push(" where owner_id = ").push_bind(owner).push(" and id in ").push_ids(ids.iter().copied());
            let (sql, values) = update.build();
            conn.execute(sql, values).await?;
        }
    }
    Ok(())
}
