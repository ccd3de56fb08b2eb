//! Time zones, labels and due times.

use prost_types::Timestamp;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{ListTasksRequest, Task};

use crate::support::{Service, User, titled};

on_each_database!(
    time_zones_are_returned_as_sent,
    invalid_time_zones_are_refused,
    labels_keep_their_order,
    invalid_labels_are_refused,
    labels_are_found_in_any_case_and_encoding,
    dotted_and_dotless_i_are_found_alike,
    labels_and_time_zone_are_updated_like_other_fields,
    due_date_ends_in_the_time_zone_of_the_task,
    changing_the_time_zone_moves_the_end_of_the_due_date,
    due_time_does_not_depend_on_the_time_zone,
);

fn zoned(zone: &str) -> Task {
    Task { time_zone: zone.to_owned(), ..titled("Buy milk") }
}

fn labelled<S: Into<String>>(labels: impl IntoIterator<Item = S>) -> Task {
    Task { labels: labels.into_iter().map(Into::into).collect(), ..titled("Buy milk") }
}

/// Reports whether the task is due exactly at this time.
async fn is_due(user: &User, task: &Task, at: &str) -> bool {
    let filter = format!("due_time = \"{at}\"");
    let page = user.list(ListTasksRequest { filter, ..ListTasksRequest::default() }).await.expect("a page");
    page.tasks.iter().any(|found| found.id == task.id)
}

async fn time_zones_are_returned_as_sent(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let names =
        ["", "Europe/Berlin", "UTC", "Etc/UTC", "Etc/GMT+12", "America/Argentina/Buenos_Aires", "Asia/Calcutta"];
    for zone in names {
        let created = ann.create(zoned(zone)).await.expect(zone);
        assert_eq!(created.time_zone, zone);
        assert_eq!(ann.get(&created.id).await.expect("it exists"), created);
    }
}

async fn invalid_time_zones_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let long = "Europe/Berlin".repeat(1000);
    for zone in [
        "europe/berlin",
        "Europe/berlin",
        "Berlin",
        "Europe/Berlin ",
        " ",
        "\0",
        "Z",
        "+01:00",
        "CEST",
        "local",
        "Etc/Unknown",
        "../Europe/Berlin",
        "/etc/localtime",
        ":Europe/Berlin",
        "posix/Europe/Berlin",
        "EST5EDT,M3.2.0,M11.1.0",
        &long,
    ] {
        assert_refused!(ann.create(zoned(zone)).await, InvalidArgument, "VALIDATION_FAILED", "task.time_zone");
        let sent = Task { id: task.id.clone(), ..zoned(zone) };
        let outcome = ann.update(sent, &["time_zone"]).await;
        assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.time_zone");
    }
    assert_eq!(ann.list_all(0, true).await, [task.id]);
}

async fn labels_keep_their_order(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let twenty_labels: Vec<_> = (0..20).map(|index| format!("{index}{}", "🥛".repeat(48))).collect();
    for labels in [
        vec![],
        vec!["home"],
        vec!["b", "a", "B\u{301}", "É"],
        vec![" padded ", "two words", "a\u{2028}b", "%_'\"\\", "日本語", "null"],
        twenty_labels.iter().map(String::as_str).collect(),
    ] {
        let created = ann.create(labelled(labels.clone())).await.expect("the task is created");
        assert_eq!(created.labels, labels);
        assert_eq!(ann.get(&created.id).await.expect("it exists"), created);
    }
}

/// Returns the titles of the tasks that a filter finds, in order.
async fn find(user: &User, filter: &str) -> Vec<String> {
    let (filter, order_by) = (filter.to_owned(), "title".to_owned());
    let request = ListTasksRequest { filter, order_by, ..ListTasksRequest::default() };
    user.list(request).await.expect("a page").tasks.into_iter().map(|task| task.title).collect()
}

async fn labels_are_found_in_any_case_and_encoding(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (title, label) in [("1", "Home"), ("2", "home"), ("3", "Café"), ("4", "homework")] {
        let task = ann.create(Task { title: title.to_owned(), ..labelled(["x", label]) }).await.expect("a task");
        assert_eq!(task.labels, ["x", label], "each task keeps the form that was sent");
    }
    for (label, expected) in [
        ("home", &["1", "2"][..]),
        ("HOME", &["1", "2"]),
        ("\"CAFE\u{301}\"", &["3"]),
        ("café", &["3"]),
        ("cafe", &[]),
        ("hom", &[]),
        ("X", &["1", "2", "3", "4"]),
    ] {
        assert_eq!(find(&ann, &format!("labels:{label}")).await, expected, "{label}");
    }
    let updated = Task { id: ann.list_all(0, false).await[0].clone(), ..labelled(["HOME"]) };
    assert_eq!(ann.update(updated, &["labels"]).await.expect("an update").labels, ["HOME"]);
    assert_eq!(find(&ann, "labels:home").await, ["1", "2", "4"]);
    assert_eq!(find(&ann, "labels:homework").await, [""; 0]);
}

async fn dotted_and_dotless_i_are_found_alike(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let titles = ["IZMIR", "izmir", "ızmır", "İZMİR"];
    for title in titles {
        ann.make(title).await;
    }
    ann.create(Task { notes: "İzmir'e git".to_owned(), ..labelled(["İzmir"]) }).await.expect("a task");
    for word in titles.into_iter().chain(["i\u{307}zmi\u{307}r"]) {
        assert_eq!(find(&ann, &format!("\"{word}\"")).await.len(), 5, "{word}");
        assert_eq!(find(&ann, &format!("title:\"{word}\"")).await.len(), 4, "{word}");
        assert_eq!(find(&ann, &format!("labels:\"{word}\"")).await.len(), 1, "{word}");
    }
}

async fn invalid_labels_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let too_many: Vec<_> = (0..21).map(|index| index.to_string()).collect();
    let too_long = "a".repeat(51);
    let wrong = [
        vec![""],
        vec!["home", ""],
        vec![" "],
        vec!["\u{3000}\u{a0}"],
        vec!["\0"],
        vec!["a\nb"],
        vec!["\t"],
        vec!["a\u{85}"],
        vec!["home", "work", "home"],
        vec!["home", "work", "Home"],
        vec!["É", "e\u{301}"],
        vec!["İş", "iş"],
        vec![&too_long],
        too_many.iter().map(String::as_str).collect(),
        vec!["a"; 20_000],
    ];
    for labels in wrong {
        assert_refused!(ann.create(labelled(labels)).await, InvalidArgument, "VALIDATION_FAILED", "task.labels");
    }
    assert_eq!(ann.list_all(0, true).await, [""; 0]);
}

async fn labels_and_time_zone_are_updated_like_other_fields(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let full = Task { labels: vec!["home".to_owned()], ..zoned("Europe/Berlin") };
    let task = ann.create(full).await.expect("the task is created");
    let sent = |labels: &[&str], zone: &str| Task {
        id: task.id.clone(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        time_zone: zone.to_owned(),
        ..Task::default()
    };
    let steps: [(Task, &[&str], &[&str], &str); 6] = [
        (sent(&["work"], "Asia/Tokyo"), &["labels"], &["work"], "Europe/Berlin"),
        (sent(&[], "Asia/Tokyo"), &["time_zone"], &["work"], "Asia/Tokyo"),
        (sent(&["a", "b"], "UTC"), &[], &["a", "b"], "UTC"),
        (sent(&[], ""), &[], &["a", "b"], "UTC"),
        (sent(&[], "UTC"), &["labels"], &[], "UTC"),
        (sent(&["a"], ""), &["time_zone", "labels"], &["a"], ""),
    ];
    for (sent, mask, labels, zone) in steps {
        let updated = ann.update(sent, mask).await.expect("an update");
        assert_eq!(
            (&updated.labels[..], &updated.time_zone[..]),
            (&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>()[..], zone)
        );
        assert_eq!(ann.get(&task.id).await.expect("it exists"), updated);
    }
    let updated = ann.update(Task { title: "Buy oats".to_owned(), ..sent(&[], "") }, &["*"]).await.expect("an update");
    assert_eq!((updated.labels, &updated.time_zone[..]), (Vec::new(), ""));
    let outcome = ann.update(sent(&["a", "a"], ""), &["labels"]).await;
    assert_refused!(outcome, InvalidArgument, "VALIDATION_FAILED", "task.labels");
}

async fn due_date_ends_in_the_time_zone_of_the_task(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for (date, zone, end) in [
        ("2026-11-30", "", "2026-12-01T00:00:00Z"),
        ("2026-11-30", "Europe/Berlin", "2026-11-30T23:00:00Z"),
        ("2026-11-30", "Pacific/Auckland", "2026-11-30T11:00:00Z"),
        // The day on which daylight saving time begins, and the day before.
        ("2026-03-29", "Europe/Berlin", "2026-03-29T22:00:00Z"),
        ("2026-03-28", "Europe/Berlin", "2026-03-28T23:00:00Z"),
        // Midnight is skipped; midnight occurs twice.
        ("2017-03-25", "Asia/Beirut", "2017-03-25T22:00:00Z"),
        ("2017-11-04", "America/Havana", "2017-11-05T04:00:00Z"),
        // The day before a day that does not exist in this time zone, and that day.
        ("2011-12-29", "Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("0001-01-01", "Asia/Tokyo", "0001-01-01T14:41:01Z"),
        ("9999-12-29", "Pacific/Pago_Pago", "9999-12-30T11:00:00Z"),
    ] {
        let task = ann.create(Task { due_date: date.to_owned(), ..zoned(zone) }).await.expect("the task is created");
        assert!(is_due(&ann, &task, end).await, "{date} {zone}");
        assert_eq!((&task.due_date[..], task.due_time), (date, None));
    }
    ann.create(Task { due_date: "9999-12-31".to_owned(), ..titled("never") }).await.expect("the task is created");
}

async fn changing_the_time_zone_moves_the_end_of_the_due_date(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task =
        ann.create(Task { due_date: "2026-11-30".to_owned(), ..titled("A") }).await.expect("the task is created");
    let updates: [(Task, &[&str], &str); 4] = [
        (zoned("Europe/Berlin"), &["time_zone"], "2026-11-30T23:00:00Z"),
        (Task { due_date: "2026-07-01".to_owned(), ..zoned("") }, &["due_date"], "2026-07-01T22:00:00Z"),
        (zoned("Asia/Tokyo"), &["title", "time_zone"], "2026-07-01T15:00:00Z"),
        (zoned(""), &["time_zone"], "2026-07-02T00:00:00Z"),
    ];
    for (sent, mask, end) in updates {
        ann.update(Task { id: task.id.clone(), ..sent }, mask).await.expect("an update");
        assert!(is_due(&ann, &task, end).await, "{mask:?}");
    }
    ann.update(Task { id: task.id.clone(), ..titled("A") }, &["due_date"]).await.expect("an update");
    assert!(!is_due(&ann, &task, "2026-07-02T00:00:00Z").await);
}

async fn due_time_does_not_depend_on_the_time_zone(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let due_time = Some(Timestamp { seconds: 1_800_000_000, nanos: 1000 });
    for zone in ["", "Pacific/Auckland", "America/Havana"] {
        let task = ann.create(Task { due_time, ..zoned(zone) }).await.expect("the task is created");
        assert!(is_due(&ann, &task, "2027-01-15T08:00:00.000001Z").await, "{zone}");
    }
}
