//! `UpdateTask`.

use std::time::Duration;

use prost::Message;
use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{Task, UpdateTaskRequest, task::Priority};

use crate::support::{Service, User, titled};

on_each_database!(
    fields_that_the_mask_names_are_set_or_cleared,
    fields_outside_the_mask_are_not_looked_at,
    without_a_mask_the_fields_that_are_set_are_updated,
    a_star_replaces_every_field,
    an_update_of_nothing_leaves_the_task_as_it_is,
    unknown_and_output_only_paths_are_refused,
    many_unknown_paths_are_one_violation,
    a_due_date_and_a_due_time_displace_each_other,
    both_due_date_and_due_time_are_refused,
    faults_of_an_update_are_named,
    an_old_etag_is_refused,
    a_deleted_or_missing_task_is_not_found,
);

const DATE: &str = "2026-11-30";
const TIME: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 1000 };

/// Makes a task in which everything is set.
async fn full(user: &User) -> Task {
    let task = Task {
        notes: "two bottles".to_owned(),
        priority: Priority::Low.into(),
        due_date: DATE.to_owned(),
        ..titled("Buy milk")
    };
    user.create(task).await.expect("a task is made")
}

/// The update of a task that names nothing but its id.
fn of(task: &Task) -> Task {
    Task { id: task.id.clone(), ..Task::default() }
}

async fn fields_that_the_mask_names_are_set_or_cleared(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    service.hands.advance(Duration::from_secs(1));

    let mask = ["title", "priority", "due_date", "title"];
    let updated = ann.update(Task { title: "Buy oats".to_owned(), ..of(&task) }, &mask).await.expect("an update");

    let expected = Task {
        title: "Buy oats".to_owned(),
        priority: 0,
        due_date: String::new(),
        update_time: Some(service.clock.now().into()),
        etag: "\"2\"".to_owned(),
        ..task
    };
    assert_eq!(updated, expected);
    assert_eq!(ann.get(&expected.id).await.expect("it is there"), expected);
}

async fn fields_outside_the_mask_are_not_looked_at(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let sent = Task {
        title: "\0".to_owned(),
        priority: 99,
        due_time: Some(Timestamp { seconds: 0, nanos: -1 }),
        notes: "none".to_owned(),
        state: 99,
        ..of(&task)
    };
    let updated = ann.update(sent, &["notes"]).await.expect("an update");
    assert_eq!((updated.notes, updated.title, updated.due_date), ("none".to_owned(), task.title, task.due_date));
}

async fn without_a_mask_the_fields_that_are_set_are_updated(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let sent = Task { notes: "none".to_owned(), priority: Priority::High.into(), ..of(&task) };
    let updated = ann.update(sent.clone(), &[]).await.expect("an update");
    let expected = Task { notes: "none".to_owned(), priority: Priority::High.into(), etag: "\"2\"".to_owned(), ..task };
    assert_eq!(updated, expected);

    // A mask without paths is no mask.
    let request = UpdateTaskRequest {
        task: Some(sent),
        update_mask: Some(prost_types::FieldMask::default()),
        ..UpdateTaskRequest::default()
    };
    let again = ann.client.clone().update_task(request).await.expect("an update").into_inner();
    assert_eq!(again, Task { etag: "\"3\"".to_owned(), ..expected });
}

async fn a_star_replaces_every_field(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    assert_refused!(ann.update(of(&task), &["*"]).await, InvalidArgument, "VALIDATION_FAILED", "task.title");
    let updated = ann.update(Task { title: "Buy oats".to_owned(), ..of(&task) }, &["*"]).await.expect("an update");
    let plain = Task {
        title: "Buy oats".to_owned(),
        notes: String::new(),
        priority: 0,
        due_date: String::new(),
        etag: "\"2\"".to_owned(),
        ..task
    };
    assert_eq!(updated, plain);
}

async fn an_update_of_nothing_leaves_the_task_as_it_is(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    service.hands.advance(Duration::from_secs(1));
    assert_eq!(ann.update(of(&task), &[]).await.expect("nothing to do"), task);
    assert_eq!(ann.update(Task { etag: task.etag.clone(), ..of(&task) }, &[]).await.expect("nothing to do"), task);
    let stale = Task { etag: "\"7\"".to_owned(), ..of(&task) };
    assert_refused!(ann.update(stale, &[]).await, Aborted, "ETAG_MISMATCH");
}

async fn unknown_and_output_only_paths_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
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
    assert_eq!(ann.get(&task.id).await.expect("it is there"), task);
}

async fn many_unknown_paths_are_one_violation(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let outcome = ann.update(task, &vec!["nonsense"; 20_000]).await;
    let size = outcome.as_ref().map_err(|status| status.details().len());
    assert!(size.is_err_and(|bytes| bytes < 1000));
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "update_mask");
}

async fn a_due_date_and_a_due_time_displace_each_other(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let dated = Task { due_date: DATE.to_owned(), ..of(&task) };
    let timed = Task { due_time: Some(TIME), ..of(&task) };
    let steps: [(&Task, &[&str], &str, Option<Timestamp>); 8] = [
        (&timed, &["due_time"], "", Some(TIME)),
        // To clear what is not there does not touch what is.
        (&of(&task), &["due_date"], "", Some(TIME)),
        (&dated, &["due_date"], DATE, None),
        (&of(&task), &["due_time"], DATE, None),
        (&timed, &[], "", Some(TIME)),
        (&dated, &["due_time", "due_date"], DATE, None),
        (&timed, &["due_time", "due_date"], "", Some(TIME)),
        (&of(&task), &["due_time", "due_date"], "", None),
    ];
    for (sent, mask, due_date, due_time) in steps {
        let updated = ann.update(sent.clone(), mask).await.expect("an update");
        assert_eq!((&updated.due_date[..], updated.due_time), (due_date, due_time), "{mask:?}");
    }
}

async fn both_due_date_and_due_time_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let both = Task { title: "Buy oats".to_owned(), due_date: DATE.to_owned(), due_time: Some(TIME), ..of(&task) };
    for mask in [&[][..], &["*"], &["due_date", "due_time"]] {
        let outcome = ann.update(both.clone(), mask).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.due_date", "task.due_time");
    }
}

async fn faults_of_an_update_are_named(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let faulty = Task {
        id: "1".to_owned(),
        title: "\n".to_owned(),
        notes: "\0".to_owned(),
        priority: 5,
        due_date: "soon".to_owned(),
        due_time: Some(Timestamp { seconds: i64::MIN, nanos: 0 }),
        ..of(&task)
    };
    assert_refused!(
        ann.update(faulty, &["*"]).await,
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
    assert_eq!(ann.get(&task.id).await.expect("it is there").encode_to_vec(), task.encode_to_vec());
}

async fn an_old_etag_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let with_etag = |etag: &str| Task { title: "Buy oats".to_owned(), etag: etag.to_owned(), ..of(&task) };
    let updated = ann.update(with_etag(&task.etag), &["title"]).await.expect("an update");
    assert_ne!(updated.etag, task.etag);
    for etag in [&task.etag, "2", "\"02\"", "W/\"2\"", "*", "\0", "\"ffffffffffffffffffff\""] {
        assert_refused!(ann.update(with_etag(etag), &["title"]).await, Aborted, "ETAG_MISMATCH");
    }
    ann.update(with_etag(&updated.etag), &["title"]).await.expect("an update");
}

async fn a_deleted_or_missing_task_is_not_found(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = full(&ann).await;
    let deleted = ann.delete(&task.id, "").await.expect("a deletion");
    let missing = service.clock.new_id().to_string();
    for (id, etag) in
        [(&task.id, ""), (&task.id, &deleted.etag), (&task.id, "\"9\""), (&missing, ""), (&missing, "\"1\"")]
    {
        let sent = Task { id: id.clone(), etag: etag.to_owned(), ..titled("Buy oats") };
        assert_refused!(ann.update(sent.clone(), &["title"]).await, NotFound, "TASK_NOT_FOUND");
        assert_refused!(ann.update(Task { title: String::new(), ..sent }, &[]).await, NotFound, "TASK_NOT_FOUND");
    }
}
