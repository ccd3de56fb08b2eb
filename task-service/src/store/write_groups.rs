//! Single writes of several owners, which PostgreSQL executes in one transaction. Writes that read few rows, and whose
//! owner no other transaction has locked, are executed in groups; all others are executed alone.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures::future::BoxFuture;
use service_kit::{
    args,
    db::{self, Conn, Db, Engine, FromRow, GroupKind, GroupOutcomes, Groups, Row, Value},
    rate_limit::RateLimit,
    status::ApiError,
    turns::Turn,
};
use uuid::Uuid;

use super::{
    epoch,
    mutations::{self, Mutation, Rows, apply, split_by_size},
    owner_queue::OwnerQueue,
    read_groups::fetch_tasks,
    rows::store_tasks_by_arrays,
    storage_limits::{self, response_size},
    transaction::{
        NotCommitted, Outcome, RETENTION, StoredResponse, encode_response, outcome, replay, response_values,
        store_responses,
    },
};
use crate::model::{
    TaskRow,
    mutation::{MutationContext, TaskTree, WorkingSet},
    rank::SequenceNumber,
    write::Write,
};

/// The writes of a process.
pub(crate) struct TaskWrites {
    db: Db,
    groups: Groups<Arc<Queued>, Outcome<Rows>, ApiError>,
}

/// A write whose turn among those of its owner has come.
struct Queued {
    mutation: Mutation,
    row_rate_limit: Arc<RateLimit>,
    /// Lasts until the end of the transaction.
    _turn: Turn,
}

impl TaskWrites {
    pub(crate) fn new(db: Db) -> Self {
        Self { groups: Groups::new(db.clone(), GroupKind::Write, execute_group), db }
    }

    /// Executes a mutation.
    ///
    /// # Errors
    /// As [`mutations::execute`].
    pub(crate) async fn execute(&self, queue: &OwnerQueue, mutation: Mutation) -> Result<Outcome<Rows>, ApiError> {
        if self.db.engine() == Engine::Sqlite || !is_small(&mutation) {
            return mutations::execute(&self.db, queue, mutation).await;
        }
        let turn = queue.acquire(mutation.owner).await?;
        let queued = Arc::new(Queued { mutation, row_rate_limit: queue.row_rate_limit(), _turn: turn });
        self.groups.call(queued, |queued| self.execute_alone(queue, queued)).await
    }

    async fn execute_alone(&self, queue: &OwnerQueue, queued: Arc<Queued>) -> Result<Outcome<Rows>, ApiError> {
        let mutation = queued.mutation.clone();
        let work = queue.write_in_turn(&self.db, mutation.owner, queued, |conn| {
            Box::pin(mutations::execute_within(conn, mutation))
        });
        outcome(work.await)
    }
}

/// Reports whether a mutation is a single write that needs neither ancestors nor descendants of tasks.
fn is_small(mutation: &Mutation) -> bool {
    let [write] = &mutation.writes[..] else { return false };
    let is_small = match write {
        Write::Create(task) => task.parent_id.is_none() && task.id.is_none(),
        Write::Update(_) | Write::Complete(_) | Write::Reopen(_) => true,
        Write::Delete { .. } | Write::Undelete(_) | Write::Move(_) => false,
    };
    is_small && !mutation.options.validate_only && mutation.prefixes.is_empty()
}

/// A write of a group, and the rows that it needs.
struct Member<'m> {
    mutation: &'m Mutation,
    write: Write,
    counter: Counter,
    response: Option<StoredResponse>,
    task: Option<TaskRow>,
    lists: HashSet<Uuid>,
}

/// What a member changes.
struct Diff {
    owner: Uuid,
    task: Option<TaskRow>,
    is_created: bool,
    active_delta: i64,
    response: Option<NewResponse>,
}

/// A response to store.
struct NewResponse {
    values: Vec<Value>,
    /// What it occupies.
    size: i64,
    /// The sum of the sizes of all responses of the owner, including this one.
    end: i64,
}

fn execute_group(
    conn: &mut Conn,
    queued: Vec<Arc<Queued>>,
) -> BoxFuture<'_, Result<GroupOutcomes<Outcome<Rows>, ApiError>, db::Error>> {
    Box::pin(async move {
        let members = read_members(conn, &queued).await?;
        let (mut outcomes, mut diffs) = (Vec::with_capacity(queued.len()), Vec::with_capacity(queued.len()));
        for (member, queued) in members.into_iter().zip(&queued) {
            outcomes.push(match member.and_then(Member::decide) {
                None => None,
                Some(Err(not_committed)) => Some(outcome(Err(not_committed))),
                Some(Ok((rows, diff))) => {
                    queued.row_rate_limit.charge(&diff.owner, diff.written_rows());
                    diffs.push(diff);
                    Some(Ok(Outcome::Done(rows)))
                }
            });
        }
        store(conn, diffs).await?;
        Ok(outcomes)
    })
}

/// Locks the owners of the writes, and reads the rows that the writes need. Returns `None` for a write whose owner is
/// locked by another transaction, or has not written anything yet.
async fn read_members<'m>(conn: &mut Conn, queued: &'m [Arc<Queued>]) -> Result<Vec<Option<Member<'m>>>, db::Error> {
    let counters = lock_owners(conn, queued.iter().map(|queued| queued.mutation.owner)).await?;
    let mut members: Vec<_> = queued
        .iter()
        .map(|queued| {
            let mutation = &queued.mutation;
            let (counter, write) = counters.get(&mutation.owner).copied().zip(mutation.writes.first().cloned())?;
            let lists = HashSet::from([mutation.owner]);
            Some(Member { mutation, write, counter, response: None, task: None, lists })
        })
        .collect();
    let mut locked: Vec<&mut Member<'_>> = members.iter_mut().flatten().collect();
    read_responses(conn, &mut locked).await?;
    read_tasks(conn, &mut locked).await?;
    read_lists(conn, &mut locked).await?;
    epoch::check_etags(conn, locked.into_iter().filter_map(|member| member.write.target_mut()).collect()).await?;
    Ok(members)
}

/// The counter of an owner, before the write.
#[derive(Clone, Copy)]
struct Counter {
    last_change: i64,
    active_tasks: i64,
    task_rows: i64,
    tombstones: i64,
    response_bytes: i64,
}

struct OwnerRow(Uuid, Counter);

impl FromRow for OwnerRow {
    fn from_row(row: &mut Row<'_>) -> Result<Self, db::Error> {
        let owner = row.next()?;
        let (last_change, active_tasks, task_rows) = (row.next()?, row.next()?, row.next()?);
        let (tombstones, response_bytes) = (row.next()?, row.next()?);
        Ok(Self(owner, Counter { last_change, active_tasks, task_rows, tombstones, response_bytes }))
    }
}

/// Locks the counters of owners. Skips those that are locked, so that no write of the group waits for another owner, and
/// groups of two replicas do not deadlock.
async fn lock_owners(conn: &mut Conn, owners: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, Counter>, db::Error> {
    const LOCK: &str = "
        select owner_id, last_change, live_tasks, task_rows, tombstones, response_bytes
        from owners where owner_id = any ($1) for no key update skip locked";
    let rows: Vec<OwnerRow> = conn.fetch_all(LOCK, Value::arrays(owners.map(|owner| args![owner]).collect())).await?;
    Ok(rows.into_iter().map(|OwnerRow(owner, counter)| (owner, counter)).collect())
}

/// Reads the responses that are stored for the request ids of members.
async fn read_responses(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    const SELECT: &str = "
        select found.* from unnest($1::uuid[], $2::uuid[], $3::bigint[]) wanted (owner, request, since)
        cross join lateral (
            select owner_id, hash, answer from requests
            where owner_id = owner and id = request and create_time > since limit 1
        ) found";
    let wanted = members.iter().filter_map(|member| {
        let Mutation { owner, now, options, .. } = member.mutation;
        options.request.as_ref().map(|request| args![*owner, request.id, *now - RETENTION])
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Uuid, String, String)> = conn.fetch_all(SELECT, Value::arrays(wanted)).await?;
    let mut found: HashMap<_, _> = rows.into_iter().map(|(owner, hash, answer)| (owner, (hash, answer))).collect();
    for member in members {
        member.response = found.remove(&member.mutation.owner);
    }
    Ok(())
}

/// Reads the tasks that members change.
async fn read_tasks(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    let (mut changing, mut keys) = (Vec::new(), Vec::new());
    for member in members {
        let owner = member.mutation.owner;
        if let Some(target) = member.write.target_mut() {
            keys.push((owner, target.id));
            changing.push(member);
        }
    }
    for (member, task) in changing.into_iter().zip(fetch_tasks(conn, &keys).await?) {
        let now = member.mutation.now;
        member.task = task.filter(|task| task.purge_time.is_none_or(|purge_time| purge_time > now));
    }
    Ok(())
}

/// Reads which of the lists exist in which members create tasks. The default list always exists.
async fn read_lists(conn: &mut Conn, members: &mut [&mut Member<'_>]) -> Result<(), db::Error> {
    const SELECT: &str = "
        select found.* from unnest($1::uuid[], $2::uuid[]) wanted (owner, list)
        cross join lateral (select owner_id, id from task_lists where owner_id = owner and id = list limit 1) found";
    let wanted = members.iter().filter_map(|member| match &member.write {
        Write::Create(task) => task.list_id.map(|list| args![member.mutation.owner, list]),
        _ => None,
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found: HashMap<Uuid, Uuid> =
        conn.fetch_all::<(Uuid, Uuid)>(SELECT, Value::arrays(wanted)).await?.into_iter().collect();
    for member in members {
        member.lists.extend(found.get(&member.mutation.owner));
    }
    Ok(())
}

impl Member<'_> {
    /// Applies the write. Returns `None` if it must be executed alone, because it also removes rows of an account at its
    /// limits.
    fn decide(self) -> Option<Result<(Rows, Diff), NotCommitted<Rows>>> {
        let Self { mutation, write, counter, response, task, lists } = self;
        let created = i64::from(matches!(write, Write::Create(_)));
        let is_at_limit = counter.task_rows + created > mutation.max_tasks + mutation.max_deleted
            || counter.tombstones > mutation.max_deleted;
        if is_at_limit {
            return None;
        }
        let request = mutation.options.request.as_ref();
        if let Some(Err(not_committed)) = request.map(|request| replay(request, response)) {
            return Some(Err(not_committed));
        }
        let Mutation { owner, now, purge_time, max_tasks, prefixes, new_ids, .. } = mutation;
        let sequence = SequenceNumber(counter.last_change + 1);
        let mut working_set = WorkingSet {
            context: MutationContext { owner: *owner, now: *now, purge_time: *purge_time, sequence },
            tree: TaskTree::new(task.map(|task| (task.id, task)).into_iter().collect(), Vec::new()),
            lists,
            ranks: HashMap::new(),
            changed: BTreeSet::new(),
            created: HashSet::new(),
            taken: HashSet::new(),
            active_delta: 0,
            max_active_delta: max_tasks - counter.active_tasks,
        };
        let rows = match apply(&mut working_set, vec![write], prefixes, new_ids) {
            Ok(rows) => rows,
            Err(error) => return Some(Err(error.into())),
        };
        if working_set.changed.is_empty() && request.is_none() {
            return Some(Err(NotCommitted::NothingToCommit(rows)));
        }
        let response = request.map(|request| {
            let (text, begin) = (encode_response(&(mutation.encode)(&rows)), counter.response_bytes);
            let size = response_size(text.len());
            NewResponse { values: response_values(*owner, request, text, *now, begin), size, end: begin + size }
        });
        let task = working_set.changes().next().cloned();
        let (is_created, active_delta) = (created > 0, working_set.active_delta);
        Some(Ok((rows, Diff { owner: *owner, task, is_created, active_delta, response })))
    }
}

impl Diff {
    /// Returns how many rows are written. As elsewhere, large texts count as several.
    fn written_rows(&self) -> u64 {
        let rows = u64::from(self.task.is_some()) + u64::from(self.response.is_some());
        let texts = self.task.as_ref().map_or(0, |task| 2 * (task.title.len() + task.notes.len()) + task.labels.len());
        let response = self.response.as_ref().map_or(0, |response| response.size);
        rows + (texts as u64 + response.unsigned_abs()) / Conn::BYTES_PER_ROW
    }
}

/// Writes the changes of the members.
async fn store(conn: &mut Conn, diffs: Vec<Diff>) -> Result<(), db::Error> {
    const COUNT: &str = "
        update owners set last_change = last_change + 1, live_tasks = live_tasks + added,
            task_rows = task_rows + created, response_bytes = response_bytes + stored
        from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) written (owner, added, created, stored)
        where owner_id = owner";
    if diffs.is_empty() {
        return Ok(());
    }
    let counts = diffs.iter().map(|diff| {
        let stored = diff.response.as_ref().map_or(0, |response| response.size);
        args![diff.owner, diff.active_delta, i64::from(diff.is_created), stored]
    });
    conn.execute(COUNT, Value::arrays(counts.collect())).await?;
    for overwrites in [false, true] {
        let tasks = diffs.iter().filter(|diff| diff.is_created != overwrites).filter_map(|diff| diff.task.as_ref());
        for tasks in split_by_size(tasks.collect()) {
            let (sql, values) = store_tasks_by_arrays(&tasks, overwrites);
            conn.execute(sql, values).await?;
        }
    }
    let responses: Vec<_> =
        diffs.into_iter().filter_map(|diff| diff.response.map(|response| (diff.owner, response))).collect();
    if responses.is_empty() {
        return Ok(());
    }
    storage_limits::delete_oldest_responses(conn, responses.iter().map(|(owner, response)| (*owner, response.end)))
        .await?;
    store_responses(conn, responses.into_iter().map(|(_, response)| response.values).collect()).await
}
