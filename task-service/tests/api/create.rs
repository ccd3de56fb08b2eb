//! `CreateTask` and the validation of task fields.

use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    CreateTaskRequest, Task,
    task::{Priority, State},
};
use uuid::Uuid;

use crate::support::{Service, titled, with_revision};

on_each_database!(
    create_returns_the_complete_task,
    output_only_fields_are_ignored,
    text_is_returned_byte_for_byte,
    lengths_are_counted_in_code_points,
    invalid_fields_are_named,
    all_violations_of_a_request_are_reported_together,
    request_without_a_task_is_refused,
    ids_ascend,
);

async fn create_returns_the_complete_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let due_time = Some(Timestamp { seconds: -1, nanos: 999_999_000 });
    let sent = Task {
        title: "Buy milk".to_owned(),
        notes: "two\n\tbottles\r\n".to_owned(),
        priority: Priority::High.into(),
        due_time,
        ..Task::default()
    };
    let created = ann.create(sent.clone()).await.expect("the task is created");
    let now = Some(service.clock.now().into());
    let expected = Task {
        id: created.id.clone(),
        state: State::Open.into(),
        owner_id: ann.id.to_string(),
        create_time: now,
        update_time: now,
        etag: with_revision(&created.etag, 1),
        // The default list has the id of its owner.
        list_id: ann.id.to_string(),
        rank: created.rank.clone(),
        ..sent
    };
    assert_eq!(created, expected);
    assert_eq!(Uuid::try_parse(&created.id).expect("a UUID").get_version_num(), 7);
    assert_eq!(ann.get(&created.id).await.expect("it exists"), expected);
}

async fn output_only_fields_are_ignored(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let absurd = Some(Timestamp { seconds: i64::MAX, nanos: -1 });
    let sent = Task {
        id: "mine".to_owned(),
        state: 77,
        owner_id: "\0".to_owned(),
        create_time: absurd,
        update_time: absurd,
        complete_time: absurd,
        delete_time: absurd,
        purge_time: absurd,
        etag: "\"77\"".to_owned(),
        rank: "5".to_owned(),
        source_id: "google:1".to_owned(),
        ..titled("Buy milk")
    };
    let created = ann.create(sent).await.expect("the task is created");
    let plain = ann.make("Buy milk").await;
    assert!(created.rank < plain.rank, "{} {}", created.rank, plain.rank);
    assert_eq!(Task { id: plain.id.clone(), rank: plain.rank.clone(), ..created }, plain);
}

async fn text_is_returned_byte_for_byte(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for text in [
        "'; drop table task; --",
        "\" or \"1\"=\"1",
        "%_\\%",
        "$1 ? :name @p",
        " padded ",
        "日本語 Ελληνικά עברית",
        "👩‍👩‍👧‍👦 e\u{301} é",
        "\u{feff}\u{202e}\u{2028}\u{2029}\u{fffd}\u{10ffff}",
        "null",
        "{}",
        "<b>&amp;</b>",
    ] {
        let created = ann.create(Task { notes: text.to_owned(), ..titled(text) }).await.expect(text);
        let read = ann.get(&created.id).await.expect("it exists");
        assert_eq!((&read.title[..], &read.notes[..]), (text, text));
    }
}

async fn lengths_are_counted_in_code_points(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let longest = Task { notes: "🥛".repeat(4000), ..titled(&"🥛".repeat(200)) };
    ann.create(longest.clone()).await.expect("not too long");
    let too_long = Task { title: "a".repeat(201), ..longest.clone() };
    assert_refused!(ann.create(too_long).await, InvalidArgument, "VALIDATION_FAILED", "task.title");
    let too_long = Task { notes: "a".repeat(4001), ..longest };
    assert_refused!(ann.create(too_long).await, InvalidArgument, "VALIDATION_FAILED", "task.notes");
}

async fn invalid_fields_are_named(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for title in ["", " ", "\u{3000}\u{a0}", "\0", "a\0", "a\nb", "a\tb", "a\r", "\u{7f}", "a\u{80}", "a\u{1b}[0m"] {
        assert_refused!(ann.create(titled(title)).await, InvalidArgument, "VALIDATION_FAILED", "task.title");
    }
    for notes in ["\0", "a\u{b}", "a\u{c}", "\u{7f}", "a\u{85}"] {
        let task = Task { notes: notes.to_owned(), ..titled("Buy milk") };
        assert_refused!(ann.create(task).await, InvalidArgument, "VALIDATION_FAILED", "task.notes");
    }
    for priority in [-1, 4, i32::MAX, i32::MIN] {
        let task = Task { priority, ..titled("Buy milk") };
        assert_refused!(ann.create(task).await, InvalidArgument, "VALIDATION_FAILED", "task.priority");
    }
    for due_date in ["2026-02-30", "2026-1-1", "tomorrow", "0000-01-01", "2026-11-30\0", " "] {
        let task = Task { due_date: due_date.to_owned(), ..titled("Buy milk") };
        assert_refused!(ann.create(task).await, InvalidArgument, "VALIDATION_FAILED", "task.due_date");
    }
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000), (0, 1)] {
        let task = Task { due_time: Some(Timestamp { seconds, nanos }), ..titled("Buy milk") };
        assert_refused!(ann.create(task).await, InvalidArgument, "VALIDATION_FAILED", "task.due_time");
    }
    assert_eq!(ann.list_all(0, true).await, [""; 0]);
}

async fn all_violations_of_a_request_are_reported_together(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = Task {
        notes: "\0".to_owned(),
        priority: 9,
        due_date: "soon".to_owned(),
        due_time: Some(Timestamp { seconds: 0, nanos: -1 }),
        ..titled("")
    };
    assert_refused!(
        ann.create(task).await,
        InvalidArgument,
        "VALIDATION_FAILED",
        "task.due_date",
        "task.due_time",
        "task.notes",
        "task.priority",
        "task.title",
    );
    let task = Task { due_date: "2026-11-30".to_owned(), due_time: Some(Timestamp::default()), ..titled("Buy milk") };
    assert_refused!(ann.create(task).await, InvalidArgument, "VALIDATION_FAILED", "task.due_date", "task.due_time");
}

async fn request_without_a_task_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let outcome =
        service.user().client.create_task(CreateTaskRequest { task: None, ..CreateTaskRequest::default() }).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task");
}

async fn ids_ascend(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(ann.make("Buy milk").await.id);
    }
    assert!(ids.is_sorted());
}
