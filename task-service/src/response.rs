//! Converts rows to messages.

use prost::{
    Message,
    bytes::BufMut,
    encoding::{WireType, encode_key, encode_varint, int32, message},
};
use service_kit::{clock::Timestamp, epoch::Epoch};
use taskey_proto::task::v1::{
    Recurrence as PbRecurrence, Reminder, Task, TaskHistoryEntry, TaskList, Webhook, WebhookAttempt,
    recurrence as pb_recurrence, reminder::Time, task::State, webhook,
};
use uuid::Uuid;

use crate::model::{
    TaskRow,
    field::Labels,
    history::HistoryEntry,
    list::ListRow,
    recurrence::{Occurrence, Recurrence},
    reminder::{self, Schedule},
    webhook::{Attempt, WebhookRow},
};

/// Returns the task of a row, with an etag of this epoch.
pub(crate) fn task(row: TaskRow, epoch: Epoch) -> Task {
    let state = state(&row);
    let occurrence = row.occurrence();
    let series = |value: fn(&Occurrence) -> String| occurrence.as_ref().map(value).unwrap_or_default();
    Task {
        id: row.id.to_string(),
        title: row.title,
        notes: row.notes,
        state: state.into(),
        priority: row.priority,
        due_date: row.due_date.unwrap_or_default(),
        due_time: row.due_time.map(Into::into),
        owner_id: row.owner_id.to_string(),
        create_time: Some(row.create_time.into()),
        update_time: Some(row.update_time.into()),
        complete_time: row.complete_time.map(Into::into),
        delete_time: row.delete_time.map(Into::into),
        purge_time: row.purge_time.map(Into::into),
        etag: row.revision.etag(epoch),
        list_id: row.list_id.to_string(),
        parent_id: row.parent_id.map(|id| id.to_string()).unwrap_or_default(),
        time_zone: row.time_zone,
        labels: Labels::split_stored(&row.labels).map(str::to_owned).collect(),
        rank: row.rank,
        recurrence: occurrence.as_ref().map(|occurrence| recurrence(&occurrence.schedule.recurrence)),
        recurrence_text: series(Occurrence::text),
        series_id: series(|occurrence| occurrence.series_id.to_string()),
        occurrence_date: series(|occurrence| occurrence.schedule.slot.date().to_string()),
        next_task_id: series(|occurrence| occurrence.next_task_id.map(|id| id.to_string()).unwrap_or_default()),
        source_id: row.source_id.unwrap_or_default(),
        reminders: reminder::parse(&row.reminders).map(pb_reminder).collect(),
    }
}

/// Returns a reminder as a message.
pub(crate) fn pb_reminder(reminder: reminder::Reminder) -> Reminder {
    Reminder {
        id: reminder.id.to_string(),
        time: Some(match reminder.schedule {
            Schedule::At(time) => Time::RemindTime(time.into()),
            Schedule::BeforeDue(seconds) => Time::BeforeDue(prost_types::Duration { seconds, nanos: 0 }),
        }),
        snooze_time: reminder.snooze_time.map(Into::into),
        fire_time: reminder.fire_time.map(Into::into),
        late: reminder.is_late,
        acknowledge_time: reminder.acknowledge_time.map(Into::into),
    }
}

/// Returns how a task recurs.
fn recurrence(recurrence: &Recurrence) -> PbRecurrence {
    let basis = pb_recurrence::Basis::from_str_name(recurrence.basis.name()).unwrap_or_default();
    let catch_up = pb_recurrence::CatchUp::from_str_name(recurrence.catch_up.name()).unwrap_or_default();
    PbRecurrence { rrule: recurrence.rule.to_string(), basis: basis.into(), catch_up: catch_up.into() }
}

/// Appends the encoding of the task that [`task`] returns, without building it.
pub(crate) fn encode_task(row: &TaskRow<&str>, epoch: Epoch, bytes: &mut Vec<u8>) {
    put_id(1, Some(row.id), bytes);
    put_text(2, row.title, bytes);
    put_text(3, row.notes, bytes);
    int32::encode(4, &state(row).into(), bytes);
    if row.priority != 0 {
        int32::encode(5, &row.priority, bytes);
    }
    put_text(6, row.due_date.unwrap_or_default(), bytes);
    put_time(7, row.due_time, bytes);
    put_id(8, Some(row.owner_id), bytes);
    put_time(9, Some(row.create_time), bytes);
    put_time(10, Some(row.update_time), bytes);
    put_time(11, row.complete_time, bytes);
    put_time(12, row.delete_time, bytes);
    put_time(13, row.purge_time, bytes);
    put_text(14, &row.revision.etag(epoch), bytes);
    put_id(15, Some(row.list_id), bytes);
    put_id(16, row.parent_id, bytes);
    put_text(17, row.time_zone, bytes);
    for label in Labels::split_stored(row.labels) {
        put_text(18, label, bytes);
    }
    put_text(19, row.rank, bytes);
    if let Some(occurrence) = row.occurrence() {
        message::encode(20, &recurrence(&occurrence.schedule.recurrence), bytes);
        put_text(21, &occurrence.text(), bytes);
        put_id(22, Some(occurrence.series_id), bytes);
        put_text(23, &occurrence.schedule.slot.date().to_string(), bytes);
        put_id(24, occurrence.next_task_id, bytes);
    }
    for reminder in reminder::parse(row.reminders) {
        message::encode(25, &pb_reminder(reminder), bytes);
    }
    put_text(26, row.source_id.unwrap_or_default(), bytes);
}

/// Appends a field with a length: a text, bytes, or a message.
pub(crate) fn put_field(number: u32, value: &[u8], bytes: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(value.len() as u64, bytes);
    bytes.put_slice(value);
}

/// Appends a text. An empty text is the default, which is not encoded.
fn put_text(number: u32, text: &str, bytes: &mut Vec<u8>) {
    if !text.is_empty() {
        put_field(number, text.as_bytes(), bytes);
    }
}

fn put_id(number: u32, id: Option<Uuid>, bytes: &mut Vec<u8>) {
    if let Some(id) = id {
        put_text(number, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()), bytes);
    }
}

fn put_time(number: u32, time: Option<Timestamp>, bytes: &mut Vec<u8>) {
    if let Some(time) = time {
        message::encode(number, &prost_types::Timestamp::from(time), bytes);
    }
}

fn state<T>(row: &TaskRow<T>) -> State {
    if row.complete_time.is_some() { State::Completed } else { State::Open }
}

/// Returns the list of a row, with an etag of this epoch.
pub(crate) fn task_list(row: ListRow, epoch: Epoch) -> TaskList {
    TaskList {
        is_default: row.is_default(),
        id: row.id.to_string(),
        title: row.title,
        owner_id: row.owner_id.to_string(),
        create_time: Some(row.create_time.into()),
        update_time: Some(row.update_time.into()),
        etag: row.revision.etag(epoch),
    }
}

/// Returns an entry of a task history.
pub(crate) fn history_entry(entry: HistoryEntry) -> TaskHistoryEntry {
    let HistoryEntry { position, change_time, actor_id, session_id, old_value, new_value } = entry;
    TaskHistoryEntry {
        change_time: Some(change_time.into()),
        actor_id: actor_id.map(|id| id.to_string()).unwrap_or_default(),
        session_id: session_id.map(|id| id.to_string()).unwrap_or_default(),
        field: position.field,
        old_value,
        new_value,
    }
}

/// Returns the webhook of a row, with an etag of this epoch and without its secret.
pub(crate) fn webhook(row: WebhookRow, epoch: Epoch) -> Webhook {
    let state = if row.pause_time.is_some() { webhook::State::Paused } else { webhook::State::Active };
    Webhook {
        id: row.id.to_string(),
        url: row.url,
        filter: row.filter,
        state: state.into(),
        sync_token: row.sync_token,
        failing_since_time: row.failing_since.map(Into::into),
        create_time: Some(row.create_time.into()),
        update_time: Some(row.update_time.into()),
        etag: row.revision.etag(epoch),
        secret: String::new(),
    }
}

/// Returns the encoded response to a write of a webhook.
pub(crate) fn encoded_webhook(row: WebhookRow, epoch: Epoch) -> Vec<u8> {
    webhook(row, epoch).encode_to_vec()
}

/// Returns the encoded response to a write of a webhook, with its encrypted secret.
pub(crate) fn encoded_webhook_with_secret(row: WebhookRow, epoch: Epoch) -> Vec<u8> {
    let secret = row.secrets.current.clone();
    Webhook { secret, ..webhook(row, epoch) }.encode_to_vec()
}

/// Returns an attempt as a message.
pub(crate) fn webhook_attempt(attempt: Attempt) -> WebhookAttempt {
    WebhookAttempt {
        attempt_time: Some(attempt.time.into()),
        http_status: attempt.http_status.map(Into::into).unwrap_or_default(),
        latency: prost_types::Duration::try_from(attempt.latency).ok(),
        error: attempt.error,
        message_id: attempt.message_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Revision,
        recurrence::{Basis, CatchUp, Rule},
    };

    const TIME: Option<Timestamp> = Some(Timestamp::from_micros(1_234_567_890_123_456));

    /// Returns a task without optional values.
    fn minimal() -> TaskRow<&'static str> {
        let time = Timestamp::from_seconds(1_800_000_000);
        TaskRow {
            owner_id: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            list_id: Uuid::from_u128(3),
            parent_id: None,
            title: "Buy milk",
            notes: "",
            priority: 0,
            due_date: None,
            due_time: None,
            due_at: None,
            time_zone: "",
            labels: "",
            rank: "51",
            create_time: time,
            update_time: time,
            complete_time: None,
            delete_time: None,
            purge_time: None,
            revision: Revision::FIRST,
            change: 1,
            recurrence: None,
            source_id: None,
            reminders: "",
            next_reminder: None,
        }
    }

    fn to_owned(row: &TaskRow<&str>) -> TaskRow {
        TaskRow {
            owner_id: row.owner_id,
            id: row.id,
            list_id: row.list_id,
            parent_id: row.parent_id,
            title: row.title.to_owned(),
            notes: row.notes.to_owned(),
            priority: row.priority,
            due_date: row.due_date.map(str::to_owned),
            due_time: row.due_time,
            due_at: row.due_at,
            time_zone: row.time_zone.to_owned(),
            labels: row.labels.to_owned(),
            rank: row.rank.to_owned(),
            create_time: row.create_time,
            update_time: row.update_time,
            complete_time: row.complete_time,
            delete_time: row.delete_time,
            purge_time: row.purge_time,
            revision: row.revision,
            change: row.change,
            recurrence: row.recurrence.map(str::to_owned),
            source_id: row.source_id.map(str::to_owned),
            reminders: row.reminders.to_owned(),
            next_reminder: row.next_reminder,
        }
    }

    #[test]
    fn encoded_task_has_the_bytes_of_the_built_task() {
        let epoch = Epoch::from(Uuid::from_u128(0xe));
        let notes = "long ".repeat(800);
        // All values but the due date, which excludes a due time.
        let full = TaskRow {
            parent_id: Some(Uuid::from_u128(4)),
            notes: notes.as_str(),
            priority: 3,
            due_time: TIME,
            due_at: TIME,
            time_zone: "Europe/Berlin",
            labels: "\nhome\nweek 7\n",
            complete_time: TIME,
            delete_time: TIME,
            purge_time: TIME,
            revision: Revision(i64::MAX),
            source_id: Some("google:MTIz"),
            reminders: "00000000-0000-0000-0000-000000000005 @1 2 - -\n00000000-0000-0000-0000-000000000006 <3 - 4 5 late\n",
            ..minimal()
        };
        let early = Some(Timestamp::from_micros(-1));
        let dated = TaskRow { due_date: Some("2030-05-01"), due_at: TIME, complete_time: early, ..minimal() };
        let rule = Rule::parse("FREQ=MONTHLY;COUNT=9").expect("a rule");
        let recurrence = Recurrence { rule, basis: Basis::Completion, catch_up: CatchUp::Each };
        let due = to_owned(&dated).slot().expect("a due date");
        let first = Occurrence::first(Uuid::from_u128(5), recurrence, due);
        let last = Occurrence { next_task_id: Some(Uuid::from_u128(6)), ..first.clone() }.to_stored();
        let first = first.to_stored();
        let occurrences = [&first, &last].map(|stored| TaskRow { recurrence: Some(stored.as_str()), ..dated.clone() });
        for row in [minimal(), full, dated].into_iter().chain(occurrences) {
            let mut bytes = Vec::new();
            encode_task(&row, epoch, &mut bytes);
            assert_eq!(bytes, task(to_owned(&row), epoch).encode_to_vec(), "{row:?}");
        }
    }
}
