//! Pages of `ListTasks` and `ListTaskHistory`.

use std::ops::ControlFlow;

use prost::Message;
use service_kit::{epoch::Epoch, page::PageTokens};
use taskey_proto::{
    encoded::Encoded,
    task::v1::{ListTaskHistoryResponse, ListTasksResponse},
};
use uuid::Uuid;

use crate::{
    model::{
        ListQuery, TaskRow,
        history::{HistoryEntry, HistoryQuery},
        order::OrderBy,
    },
    response::{encode_task, history_entry, put_field},
};

/// The field numbers of [`ListTasksResponse`].
const TASKS: u32 = 1;
const NEXT_PAGE_TOKEN: u32 = 2;

/// Encodes a page task by task.
#[derive(Clone, Debug)]
pub(crate) struct PageEncoder {
    order: OrderBy,
    page_size: usize,
    /// The epoch in which the tasks are read.
    epoch: Epoch,
    response: Vec<u8>,
    count: usize,
    /// The number of bytes by which the response can grow.
    room: usize,
    /// The cursor of the last task of the page.
    last: Vec<u8>,
    has_more: bool,
    /// The encoded task, and its cursor, before they are added. Fields, so that their memory is used for all tasks.
    task: Vec<u8>,
    cursor: Vec<u8>,
}

impl PageEncoder {
    /// Creates an empty page, which ends early rather than exceed `max_bytes`.
    pub(crate) fn new(query: &ListQuery, epoch: Epoch, max_bytes: usize) -> Self {
        Self {
            order: query.order.clone(),
            page_size: query.page_size,
            epoch,
            response: Vec::new(),
            count: 0,
            room: max_bytes,
            last: Vec::new(),
            has_more: false,
            task: Vec::new(),
            cursor: Vec::new(),
        }
    }

    /// Adds a task, or returns `Break` if the page is full. A page has at least one task, so that clients make progress.
    pub(crate) fn push(&mut self, row: &TaskRow<&str>) -> ControlFlow<()> {
        self.has_more = self.count == self.page_size;
        if self.has_more {
            return ControlFlow::Break(());
        }
        self.task.clear();
        encode_task(row, self.epoch, &mut self.task);
        self.cursor.clear();
        self.order.encode_cursor(row, &mut self.cursor);
        let bytes = field_bytes(self.task.len());
        self.has_more = self.count > 0 && bytes + field_bytes(PageTokens::length(&self.cursor)) > self.room;
        if self.has_more {
            return ControlFlow::Break(());
        }
        put_field(TASKS, &self.task, &mut self.response);
        self.room = self.room.saturating_sub(bytes);
        self.count += 1;
        std::mem::swap(&mut self.last, &mut self.cursor);
        ControlFlow::Continue(())
    }

    /// Returns the page of an owner, with the token of the next page if there is one.
    pub(crate) fn finish(mut self, tokens: &PageTokens, owner: Uuid, query: &ListQuery) -> Encoded<ListTasksResponse> {
        if self.has_more {
            let token = tokens.seal_in(self.epoch, owner, &query.arguments(), &self.last);
            put_field(NEXT_PAGE_TOKEN, token.as_bytes(), &mut self.response);
        }
        Encoded::new(self.response)
    }
}

/// Returns a page of a history, which ends early rather than exceed `max_bytes`. If there is a next page, `entries`
/// contains at least one entry of it.
pub(crate) fn history_page(
    tokens: &PageTokens,
    owner: Uuid,
    query: &HistoryQuery,
    entries: Vec<HistoryEntry>,
    max_bytes: usize,
) -> ListTaskHistoryResponse {
    let (mut page, mut room, mut last) = (ListTaskHistoryResponse::default(), max_bytes, Vec::new());
    for entry in entries {
        let cursor = entry.position.cursor();
        let message = history_entry(entry);
        let bytes = field_bytes(message.encoded_len());
        let is_too_large = bytes + field_bytes(PageTokens::length(&cursor)) > room;
        if page.entries.len() == query.page_size || (is_too_large && !page.entries.is_empty()) {
            page.next_page_token = tokens.seal(owner, &query.arguments(), &last);
            break;
        }
        page.entries.push(message);
        room = room.saturating_sub(bytes);
        last = cursor;
    }
    page
}

/// Returns the encoded size of a field whose value has this length, including the length prefix and the tag, which is
/// one byte for field numbers up to 15.
pub(crate) fn field_bytes(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}
