//! `ImportTasks`: decides what a file creates, and creates it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use service_kit::status::ApiError;
use taskey_proto::{
    errors::v1::ErrorReason,
    task::v1::{ImportTasksResponse, Task},
};
use tokio::{sync::mpsc, task::yield_now, time::sleep};
use uuid::{Builder, Uuid, Variant, Version};

use super::{App, Writer, upload::Upload};
use crate::{
    error::quota_exceeded,
    model::{
        field::{self, Title},
        rank::SequenceNumber,
        write::Write,
    },
    request::options::WriteOptions,
    store::{
        import::{Counts, counts, find_existing, find_locations},
        lists::{self, ListWrite},
        mutations,
        storage_limits::MAX_DELETED_TASKS,
        transaction::Outcome,
    },
    transfer::import::{
        entry::{Entry, FileTask, Issue},
        plan::{Lookup, Plan, Status},
        read::read,
        report,
        sink::Batch,
    },
};

/// Number of tasks that are created together.
const MAX_WRITES: usize = 100;

/// The number of ids that a list can have besides that in the file. Further ones are random.
const MAX_DERIVED_IDS: u8 = 3;

/// How often tasks are looked up again, if others have created some of them meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// The import of a file into an account.
pub(super) struct Import<'a> {
    pub(super) app: &'a App,
    pub(super) writer: Writer,
    pub(super) upload: Upload,
    /// When it has started.
    pub(super) start: Timestamp,
}

/// The rows that are about to be created.
type Chunk = Vec<(usize, FileTask)>;

impl Import<'_> {
    /// Imports the file.
    ///
    /// # Errors
    /// IMPORT_INVALID and QUOTA_EXCEEDED, before anything is created; those of the database.
    pub(super) async fn run(self) -> Result<ImportTasksResponse, ApiError> {
        let mut plan = self.plan().await?;
        let counts = counts(&self.app.db, self.writer.owner).await?;
        let lists = self.find_lists(&mut plan, counts.lists).await?;
        self.check_quota(counts, plan.new_rows().count(), lists.len())?;
        let mut created_lists = report::count(lists.len());
        if !self.upload.validate_only {
            for (id, title) in lists {
                if !self.create_list(id, title).await? {
                    created_lists -= 1;
                }
            }
            self.create_tasks(&mut plan).await?;
        }
        // Others may have created some of the tasks meanwhile.
        let created = report::count(plan.new_rows().count());
        let unchanged = report::count(plan.rows.len()) - created;
        let report = plan.report.into_response();
        Ok(ImportTasksResponse {
            created_task_count: created,
            unchanged_task_count: unchanged,
            created_list_count: created_lists,
            ..report
        })
    }

    fn batches(&self) -> Result<mpsc::Receiver<Batch>, ApiError> {
        Ok(read(self.upload.file.open()?, self.upload.format, self.start))
    }

    /// Reads the file, and finds the tasks that exist.
    async fn plan(&self) -> Result<Plan, ApiError> {
        let mut plan = Plan::default();
        let mut batches = self.batches()?;
        // Each row exists, or is created within the limit of active tasks.
        let max_rows = 2 * self.app.max_tasks as usize + usize::try_from(MAX_DELETED_TASKS).unwrap_or_default();
        while let Some(batch) = batches.recv().await {
            let mut lookups = Vec::new();
            for entry in batch? {
                if let Entry::Task(file_task) = &entry {
                    yield_if_recurring(&file_task.task).await;
                }
                lookups.extend(plan.add(entry));
            }
            plan.report.check_early()?;
            self.find(&mut plan, lookups).await?;
            if plan.rows.len() > max_rows || plan.lists.len() > 2 * self.app.max_lists as usize {
                return Err(quota_exceeded("the file has more tasks or lists than the account may have"));
            }
        }
        self.find_locations(&mut plan).await?;
        plan.resolve_parents();
        plan.report.check()?;
        Ok(plan)
    }

    /// Sets the ids of rows: those of the tasks that exist, or new ones.
    async fn find(&self, plan: &mut Plan, lookups: Vec<Lookup>) -> Result<(), ApiError> {
        let sources = lookups.iter().map(|lookup| lookup.source_id.clone()).collect();
        let ids = lookups.iter().filter_map(|lookup| lookup.id).collect();
        let existing = find_existing(&self.app.db, self.writer.owner, sources, ids).await?;
        for lookup in lookups {
            let found = existing.by_source.get(&lookup.source_id);
            if let Some(task) = found {
                plan.check_title(&lookup, &task.title);
            }
            let by_id = lookup.id.and_then(|id| Some((id, *existing.by_id.get(&id)?)));
            let row = &mut plan.rows[lookup.index];
            (row.id, row.status) = match found.map(|task| (task.id, task.delete_time)).or(by_id) {
                Some((id, None)) => (id, Status::Exists),
                Some((id, Some(_))) => (id, Status::Deleted),
                None => {
                    let free = lookup.id.filter(|id| !existing.taken.contains(id) && *id != self.writer.owner);
                    (free.unwrap_or_else(|| self.app.clock.new_id()), Status::New)
                }
            };
        }
        Ok(())
    }

    /// Sets where the account has the existing tasks that get new subtasks.
    async fn find_locations(&self, plan: &mut Plan) -> Result<(), ApiError> {
        for parents in plan.existing_parents().chunks(MAX_WRITES) {
            let ids: Vec<_> = parents.iter().map(|parent| plan.rows[*parent].id).collect();
            let found: HashMap<_, _> =
                find_locations(&self.app.db, self.writer.owner, ids).await?.into_iter().collect();
            for parent in parents {
                if let Some(location) = found.get(&plan.rows[*parent].id) {
                    plan.set_location(*parent, *location);
                }
            }
        }
        Ok(())
    }

    /// Sets the ids of the lists of the file, of which the account has `count`. Returns those that must be created.
    async fn find_lists(&self, plan: &mut Plan, count: usize) -> Result<Vec<(Uuid, Title)>, ApiError> {
        let App { db, owner_queue, clock, max_lists, .. } = self.app;
        let owner = self.writer.owner;
        let ids_of = |index: usize| (index, list_ids(owner, &plan.lists[index].key));
        let needed: Vec<_> = plan.needed_lists().into_iter().map(ids_of).collect();
        // Before the lists are read: another replica that imports the same file may create some of them meanwhile.
        let mut taken = HashSet::new();
        for needed in needed.chunks(MAX_WRITES) {
            let ids = needed.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
            taken.extend(find_existing(db, owner, Vec::new(), ids).await?.taken);
        }
        let max_count = count.max(*max_lists as usize);
        let lists = lists::list(db, owner_queue, owner, clock.now(), None, max_count).await?;
        let titles: HashMap<_, _> = lists.into_iter().map(|list| (list.id, list.title)).collect();
        if plan.default_title.as_ref().is_some_and(|title| titles.get(&owner) != Some(title)) {
            let description = "of the default list differs; the default list keeps its title";
            plan.report.add_loss(Issue::new(0, "title", description));
        }
        let mut created = Vec::new();
        for (index, ids) in needed {
            let existing = ids.iter().find(|id| titles.contains_key(id) && **id != owner).copied();
            if existing.is_some() {
                plan.lists[index].id = existing;
                continue;
            }
            let title = Title::try_from(plan.list_title(index)).map_err(ApiError::internal)?;
            let id = ids.into_iter().find(|id| !taken.contains(id)).unwrap_or_else(|| clock.new_id());
            created.push((id, title));
            plan.lists[index].id = Some(id);
        }
        Ok(created)
    }

    fn check_quota(&self, counts: Counts, tasks: usize, lists: usize) -> Result<(), ApiError> {
        let fits = |count: usize, max: u32| count <= max as usize;
        if tasks > 0 && !fits(counts.active_tasks + tasks, self.app.max_tasks) {
            return Err(quota_exceeded(
                "with the tasks of the file, the account would exceed its limit of active tasks",
            ));
        }
        if lists > 0 && !fits(counts.lists + lists, self.app.max_lists) {
            return Err(quota_exceeded("with the lists of the file, the account would exceed its limit of lists"));
        }
        Ok(())
    }

    /// Creates a list. Returns whether it did not exist: another replica may import the same file.
    async fn create_list(&self, id: Uuid, title: Title) -> Result<bool, ApiError> {
        let App { db, owner_queue, clock, page_tokens, max_lists, .. } = self.app;
        let options = WriteOptions { request: None, validate_only: false };
        let epoch = page_tokens.epoch().get();
        let write = ListWrite {
            owner: self.writer.owner,
            actor: self.writer.actor,
            now: clock.now(),
            options,
            epoch,
            encode: |_, _| Vec::new(),
        };
        match lists::create(db, owner_queue, write, id, title, (*max_lists).into()).await {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == ErrorReason::TaskIdTaken => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the file once for each level, so that parents are created before their subtasks.
    async fn create_tasks(&self, plan: &mut Plan) -> Result<(), ApiError> {
        let mut first = None;
        for depth in plan.new_depths() {
            let (mut index, mut chunk) = (0, Chunk::new());
            let mut batches = self.batches()?;
            while let Some(batch) = batches.recv().await {
                for entry in batch? {
                    let Entry::Task(task) = entry else { continue };
                    if plan.rows[index].depth == depth && plan.rows[index].status == Status::New {
                        chunk.push((index, *task));
                    }
                    index += 1;
                    if chunk.len() == MAX_WRITES {
                        self.create_chunk(plan, std::mem::take(&mut chunk), &mut first).await?;
                    }
                }
            }
            self.create_chunk(plan, chunk, &mut first).await?;
        }
        Ok(())
    }

    /// Creates tasks in one mutation. If others have created some of them meanwhile, creates the rest.
    async fn create_chunk(
        &self,
        plan: &mut Plan,
        chunk: Chunk,
        first: &mut Option<SequenceNumber>,
    ) -> Result<(), ApiError> {
        for attempt in 1.. {
            let chunk: Vec<_> = chunk.iter().filter(|(index, _)| plan.rows[*index].status == Status::New).collect();
            let now = self.app.clock.now();
            let mut writes = Vec::new();
            for (index, file_task) in chunk.iter().copied() {
                yield_if_recurring(&file_task.task).await;
                writes.extend(plan.new_task(*index, file_task.clone(), *first, now).map(Write::Create));
            }
            if writes.is_empty() {
                return Ok(());
            }
            match self.write(writes).await {
                Ok(sequence) => {
                    self.app.watches.notify(self.writer.owner);
                    first.get_or_insert(sequence);
                    return Ok(());
                }
                Err(error) if error.reason() == ErrorReason::TaskIdTaken && attempt < MAX_ATTEMPTS => {
                    let lookups = chunk.iter().map(|(index, task)| Plan::lookup(*index, task)).collect();
                    self.find(plan, lookups).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Executes a mutation, when the account may write. Returns its sequence number.
    async fn write(&self, writes: Vec<Write>) -> Result<SequenceNumber, ApiError> {
        while let Some(delay) = self.app.row_delay(self.writer.owner) {
            sleep(delay).await;
        }
        let options = WriteOptions { request: None, validate_only: false };
        let prefixes = (0..writes.len()).map(|_| String::new()).collect();
        let mutation = self.app.mutation(self.writer, options, writes, prefixes, Arc::new(|_| Vec::new()));
        match mutations::execute(&self.app.db, &self.app.owner_queue, mutation).await? {
            Outcome::Done(rows) => {
                let change = rows.into_iter().flatten().next().map(|row| row.change);
                change.map(SequenceNumber).ok_or_else(|| ApiError::internal("a creation without a task"))
            }
            Outcome::Replayed(_) => Err(ApiError::internal("a mutation without a request id was replayed")),
        }
    }
}

/// Lets other calls run before the recurrence of a task is checked, because a search for its occurrences can take
/// milliseconds, and an import has many.
async fn yield_if_recurring(task: &Task) {
    if task.recurrence.is_some() {
        yield_now().await;
    }
}

/// Returns the ids that a list of the file can have, in the order in which they are tried: its key, if that is an id, and ids
/// that follow from the key and the account, so that each import finds the same list. The id of a deleted list is taken.
fn list_ids(owner: Uuid, key: &str) -> Vec<Uuid> {
    let derived = (0..MAX_DERIVED_IDS).map(|number| {
        let hash = digest(&SHA256, &[&owner.as_bytes()[..], &[number], key.as_bytes()].concat());
        let mut bytes = uuid::Bytes::default();
        bytes.copy_from_slice(&hash.as_ref()[..size_of::<uuid::Bytes>()]);
        Builder::from_bytes(bytes).with_variant(Variant::RFC4122).with_version(Version::Custom).into_uuid()
    });
    field::id(key).into_iter().chain(derived).collect()
}
