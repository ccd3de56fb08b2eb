//! Exports: reads the lists and tasks of an account page by page, and sends the file in parts.

use std::collections::HashSet;

use service_kit::{db::Db, epoch::Epoch, status::ApiError};
use taskey_proto::task::v1::{ExportTasksResponse, TaskList};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::limit::TransferPermit;
use crate::{
    model::{file::ExportFormat, list::ListRow},
    response,
    store::export,
    watch::stream,
};

/// Number of lists or tasks that are read at a time. The texts of a task have up to 21 KB.
const PAGE_SIZE: usize = 100;

/// Parts of a file are sent when they are larger than this.
const PART_BYTES: usize = 64 * 1024;

/// An export that has not started yet.
pub(crate) struct Export {
    pub(crate) db: Db,
    pub(crate) epoch: Epoch,
    pub(crate) default_list: ListRow,
    pub(crate) format: ExportFormat,
    /// Lasts as long as the export.
    pub(crate) permit: TransferPermit,
}

impl Export {
    /// Sends the file.
    ///
    /// # Errors
    /// Those of the database, and OVERLOADED if the client reads too slowly.
    pub(crate) async fn send(self, messages: mpsc::Sender<ExportTasksResponse>) -> Result<(), ApiError> {
        let Self { db, epoch, default_list, format, permit: _permit } = self;
        let owner = default_list.owner_id;
        let mut file = FileSender { messages, bytes: Vec::new(), format: Some(format), tasks: HashSet::new() };
        format.begin(&mut file.bytes);
        let mut lists = vec![default_list];
        let mut after = None;
        while !lists.is_empty() {
            for list in lists {
                after = Some(list.id).filter(|id| *id != owner).or(after);
                let list = response::task_list(list, epoch);
                send_list(&db, owner, epoch, &list, format, &mut file).await?;
            }
            lists = export::lists_after(&db, owner, after, PAGE_SIZE).await?;
        }
        format.end(file.tasks.len(), &mut file.bytes);
        file.send().await
    }
}

/// Sends a list and its tasks.
async fn send_list(
    db: &Db,
    owner: Uuid,
    epoch: Epoch,
    list: &TaskList,
    format: ExportFormat,
    file: &mut FileSender,
) -> Result<(), ApiError> {
    let list_id = list.id.parse().map_err(ApiError::internal)?;
    format.list(list, &mut file.bytes);
    let mut after = (String::new(), Uuid::nil());
    loop {
        let tasks = export::tasks_after(db, owner, list_id, after, PAGE_SIZE).await?;
        let Some(last) = tasks.last() else { return Ok(()) };
        after = (last.rank.clone(), last.id);
        for task in tasks {
            // A task that was moved meanwhile is found again. Imports refuse a file with two tasks of the same id.
            if !file.tasks.insert(task.id) {
                continue;
            }
            let series = task.series_state();
            format.task(&response::task(task, epoch), series.as_ref(), list, &mut file.bytes);
            if file.bytes.len() > PART_BYTES {
                file.send().await?;
            }
        }
    }
}

/// Sends the parts of a file.
struct FileSender {
    messages: mpsc::Sender<ExportTasksResponse>,
    /// The bytes that have not been sent.
    bytes: Vec<u8>,
    /// The format, until the first part has been sent.
    format: Option<ExportFormat>,
    /// The tasks of the file.
    tasks: HashSet<Uuid>,
}

impl FileSender {
    async fn send(&mut self) -> Result<(), ApiError> {
        let (content_type, file_name) = match self.format.take() {
            Some(format) => (format.content_type().to_owned(), format.file_name().to_owned()),
            None => (String::new(), String::new()),
        };
        let content = std::mem::take(&mut self.bytes);
        let part = ExportTasksResponse { content, content_type, file_name };
        stream::send(&self.messages, part, "the file was read too slowly").await
    }
}
