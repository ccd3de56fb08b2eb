//! `UpdateTask`.

use std::time::Duration;

use prost::Message;
use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, UpdateTaskRequest, task::Priority};

use crate::support::{Service, User, titled, with_revision};

on_each_database!(
    fields_in_the_mask_are_set_or_cleared,
    fields_outside_the_mask_are_ignored,
    without_a_mask_nonempty_fields_are_updated,
    star_replaces_every_field,
    empty_update_changes_nothing,
    unknown_and_output_only_paths_are_refused,
    many_unknown_paths_are_one_violation,
    due_date_and_due_time_replace_each_other,
    both_due_date_and_due_time_are_refused,
    all_violations_of_an_update_are_reported,
    outdated_etag_is_refused,
    deleted_or_missing_task_is_not_found,
);

const DATE: &str = "2026-11-30";
const TIME: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 1000 };

/// Creates a task with every field set.
async fn create_full_task(user: &User) -> Task {
    let task = Task {
        notes: "two bottles".to_owned(),
        priority: Priority::Low.into(),
        due_date: DATE.to_owned(),
        ..titled("Buy milk")
    };
    user.create(task).await.expect("the task is created")
}

/// Returns an update with only the id of a task.
fn empty_update(task: &Task) -> Task {
    Task { id: task.id.clone(), ..Task::default() }
}

async fn fields_in_the_mask_are_set_or_cleared(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    service.manual_clock.advance(Duration::from_secs(1));

    let mask = ["title", "priority", "due_date", "title"];
    let updated =
        ann.update(Task { title: "Buy oats".to_owned(), ..empty_update(&task) }, &mask).await.expect("an update");

    let expected = Task {
        title: "Buy oats".to_owned(),
        priority: 0,
        due_date: String::new(),
        update_time: Some(service.clock.now().into()),
        etag: with_revision(&task.etag, 2),
        ..task
    };
    assert_eq!(updated, expected);
    assert_eq!(ann.get(&expected.id).await.expect("it exists"), expected);
}

async fn fields_outside_the_mask_are_ignored(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let sent = Task {
        title: "\0".to_owned(),
        priority: 99,
        due_time: Some(Timestamp { seconds: 0, nanos: -1 }),
        notes: "none".to_owned(),
        state: 99,
        ..empty_update(&task)
    };
    let updated = ann.update(sent, &["notes"]).await.expect("an update");
    assert_eq!((updated.notes, updated.title, updated.due_date), ("none".to_owned(), task.title, task.due_date));
}

async fn without_a_mask_nonempty_fields_are_updated(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let sent = Task { notes: "none".to_owned(), priority: Priority::High.into(), ..empty_update(&task) };
    let updated = ann.update(sent.clone(), &[]).await.expect("an update");
    let expected = Task {
        notes: "none".to_owned(),
        priority: Priority::High.into(),
        update_time: updated.update_time,
        etag: with_revision(&task.etag, 2),
        ..task
    };
    assert_eq!(updated, expected);

    // A mask without paths is like no mask.
    let request = UpdateTaskRequest {
        task: Some(sent),
        update_mask: Some(prost_types::FieldMask::default()),
        ..UpdateTaskRequest::default()
    };
    let again = ann.client.clone().update_task(request).await.expect("an update").into_inner();
    assert_eq!(again, Task { update_time: again.update_time, etag: with_revision(&expected.etag, 3), ..expected });
}

async fn star_replaces_every_field(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    assert_refused!(ann.update(empty_update(&task), &["*"]).await, InvalidArgument, "VALIDATION_FAILED", "task.title");
    let updated =
        ann.update(Task { title: "Buy oats".to_owned(), ..empty_update(&task) }, &["*"]).await.expect("an update");
    let plain = Task {
        title: "Buy oats".to_owned(),
        notes: String::new(),
        priority: 0,
        due_date: String::new(),
        update_time: updated.update_time,
        etag: with_revision(&task.etag, 2),
        ..task
    };
    assert_eq!(updated, plain);
}

async fn empty_update_changes_nothing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    service.manual_clock.advance(Duration::from_secs(1));
    assert_eq!(ann.update(empty_update(&task), &[]).await.expect("nothing to do"), task);
    assert_eq!(
        ann.update(Task { etag: task.etag.clone(), ..empty_update(&task) }, &[]).await.expect("nothing to do"),
        task
    );
    let stale = Task { etag: with_revision(&task.etag, 7), ..empty_update(&task) };
    assert_refused!(ann.update(stale, &[]).await, Aborted, "ETAG_MISMATCH");
}

async fn unknown_and_output_only_paths_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    for path in [
        "",
        " ",
        "id",
        "state",
        "owner_id",
        "create_time",
        "update_time",
        "complete_time",
        "delete_time",
        "purge_time",
        "etag",
        "due_time.seconds",
        "task.title",
        "Title",
        "dueDate",
        "title ",
        "titles",
        "**",
        "'",
        "\0",
        "🥛",
    ] {
        for mask in [&[path][..], &["title", path], &["*", path]] {
            let outcome = ann.update(task.clone(), mask).await;
            assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
        }
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);
}

async fn many_unknown_paths_are_one_violation(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let outcome = ann.update(task, &vec!["nonsense"; 20_000]).await;
    let size = outcome.as_ref().map_err(|status| status.details().len());
    assert!(size.is_err_and(|bytes| bytes < 1000));
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
}

async fn due_date_and_due_time_replace_each_other(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let dated = Task { due_date: DATE.to_owned(), ..empty_update(&task) };
    let timed = Task { due_time: Some(TIME), ..empty_update(&task) };
    let steps: [(&Task, &[&str], &str, Option<Timestamp>); 8] = [
        (&timed, &["due_time"], "", Some(TIME)),
        // Clearing an unset field does not touch the other.
        (&empty_update(&task), &["due_date"], "", Some(TIME)),
        (&dated, &["due_date"], DATE, None),
        (&empty_update(&task), &["due_time"], DATE, None),
        (&timed, &[], "", Some(TIME)),
        (&dated, &["due_time", "due_date"], DATE, None),
        (&timed, &["due_time", "due_date"], "", Some(TIME)),
        (&empty_update(&task), &["due_time", "due_date"], "", None),
    ];
    for (sent, mask, due_date, due_time) in steps {
        let updated = ann.update(sent.clone(), mask).await.expect("an update");
        assert_eq!((&updated.due_date[..], updated.due_time), (due_date, due_time), "{mask:?}");
    }
}

async fn both_due_date_and_due_time_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let both =
        Task { title: "Buy oats".to_owned(), due_date: DATE.to_owned(), due_time: Some(TIME), ..empty_update(&task) };
    for mask in [&[][..], &["*"], &["due_date", "due_time"]] {
        let outcome = ann.update(both.clone(), mask).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.due_date", "task.due_time");
    }
}

async fn all_violations_of_an_update_are_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let invalid = Task {
        id: "1".to_owned(),
        title: "\n".to_owned(),
        notes: "\0".to_owned(),
        priority: 5,
        due_date: "soon".to_owned(),
        due_time: Some(Timestamp { seconds: i64::MIN, nanos: 0 }),
        ..empty_update(&task)
    };
    assert_refused!(
        ann.update(invalid, &["*"]).await,
        InvalidArgument,
        "VALIDATION_FAILED",
        "task.due_date",
        "task.due_time",
        "task.id",
        "task.notes",
        "task.priority",
        "task.title",
    );
    let request = UpdateTaskRequest { task: None, update_mask: None, ..UpdateTaskRequest::default() };
    let outcome = ann.client.clone().update_task(request).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task");
    assert_eq!(ann.get(&task.id).await.expect("it exists").encode_to_vec(), task.encode_to_vec());
}

async fn outdated_etag_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let with_etag = |etag: &str| Task { title: "Buy oats".to_owned(), etag: etag.to_owned(), ..empty_update(&task) };
    let updated = ann.update(with_etag(&task.etag), &["title"]).await.expect("an update");
    assert_ne!(updated.etag, task.etag);
    for etag in [&task.etag, "2", "\"02\"", "W/\"2\"", "*", "\0", "\"ffffffffffffffffffff\""] {
        assert_refused!(ann.update(with_etag(etag), &["title"]).await, Aborted, "ETAG_MISMATCH");
    }
    ann.update(with_etag(&updated.etag), &["title"]).await.expect("an update");
}

async fn deleted_or_missing_task_is_not_found(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = create_full_task(&ann).await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for (id, etag) in [
        (&task.id, ""),
        (&task.id, &deleted.etag),
        (&task.id, &with_revision(&task.etag, 9)),
        (&missing, ""),
        (&missing, "\"1\""),
    ] {
        let sent = Task { id: id.clone(), etag: etag.to_owned(), ..titled("Buy oats") };
        assert_refused!(ann.update(sent.clone(), &["title"]).await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.update(Task { title: String::new(), ..sent }, &[]).await, NotFound, "TASK_NOT_FOUND");
    }
}
