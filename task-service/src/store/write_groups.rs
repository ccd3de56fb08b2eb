//! Single writes of several owners, which PostgreSQL executes in one transaction. Writes that read few rows, and whose
//! owner no other transaction has locked, are executed in groups; all others are executed alone.

use std::sync::Arc;

use futures::future::BoxFuture;
use service_kit::{
    args,
    db::{self, Conn, Db, Engine, GroupKind, GroupOutcomes, Groups, Value},
    rate_limit::RateLimit,
    status::ApiError,
    turns::Turn,
};

use super::{
    history,
    mutations::{self, Mutation, Rows, split_by_size},
    owner_queue::OwnerQueue,
    reminder_queue,
    rows::store_tasks_by_arrays,
    storage_limits,
    transaction::{Outcome, outcome, store_responses},
};
use crate::model::write::Write;

mod member;

use member::{Diff, Member, read_members};

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
        Write::Update(_)
        | Write::Reopen(_)
        | Write::SkipOccurrence(_)
        | Write::StopRecurrence(_)
        | Write::Snooze { .. }
        | Write::Acknowledge { .. } => true,
        Write::Complete { include_subtasks, .. } => !include_subtasks,
        Write::Delete { .. } | Write::Undelete(_) | Write::Move(_) => false,
    };
    is_small && !mutation.options.validate_only && mutation.prefixes.is_empty()
}

fn execute_group(
    conn: &mut Conn,
    queued: Vec<Arc<Queued>>,
) -> BoxFuture<'_, Result<GroupOutcomes<Outcome<Rows>, ApiError>, db::Error>> {
    Box::pin(async move {
        let members = read_members(conn, &queued.iter().map(|queued| &queued.mutation).collect::<Vec<_>>()).await?;
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

/// Writes the changes of the members.
async fn store(conn: &mut Conn, mut diffs: Vec<Diff>) -> Result<(), db::Error> {
    const COUNT: &str = "
        update owners set last_change = last_change + 1, live_tasks = live_tasks + added,
            task_rows = task_rows + created, history_bytes = history_bytes + entries,
            response_bytes = response_bytes + stored
        from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
            written (owner, added, created, entries, stored)
        where owner_id = owner";
    if diffs.is_empty() {
        return Ok(());
    }
    let counts = diffs.iter().map(|diff| {
        let stored = diff.response.as_ref().map_or(0, |response| response.size);
        args![diff.owner, diff.active_delta, i64::from(diff.is_created), diff.history.bytes, stored]
    });
    conn.execute(COUNT, Value::arrays(counts.collect())).await?;
    for overwrites in [false, true] {
        let tasks = diffs.iter().filter(|diff| diff.is_created != overwrites).filter_map(|diff| diff.task.as_ref());
        for tasks in split_by_size(tasks.collect(), |task| *task) {
            let (sql, values) = store_tasks_by_arrays(&tasks, overwrites);
            conn.execute(sql, values).await?;
        }
    }
    let rescheduled: Vec<_> = diffs.iter().filter(|diff| diff.reschedules).map(|diff| diff.owner).collect();
    if !rescheduled.is_empty() {
        reminder_queue::schedule(conn, rescheduled).await?;
    }
    history::insert(conn, diffs.iter_mut().flat_map(|diff| diff.history.rows.drain(..)).collect()).await?;
    let responses: Vec<_> =
        diffs.into_iter().filter_map(|diff| diff.response.map(|response| (diff.owner, response))).collect();
    if responses.is_empty() {
        return Ok(());
    }
    storage_limits::delete_oldest_responses(conn, responses.iter().map(|(owner, response)| (*owner, response.end)))
        .await?;
    store_responses(conn, responses.into_iter().map(|(_, response)| response.values).collect()).await
}
