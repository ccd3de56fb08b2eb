//! Changes of reminders by updates, and their history.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, Task};

use super::{SOON, at, before_due, time, with};
use crate::support::Service;

on_each_database!(
    an_update_keeps_the_reminders_whose_ids_and_times_it_repeats,
    changes_of_reminders_are_in_the_history,
    exports_contain_reminders,
    imports_keep_reminders_and_do_not_fire_them_again,
);

async fn an_update_keeps_the_reminders_whose_ids_and_times_it_repeats(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let now = service.clock.now();
    let created = ann.create(with(vec![at(now), at(now)])).await.expect("a task");
    let fired = ann.task_after_firings(&created.id, 2).await;
    let [kept, moved] = &fired.reminders[..] else { panic!("{fired:?}") };
    let later = taskey_proto::task::v1::Reminder { time: at(now + SOON).time, ..moved.clone() };
    let update = Task { reminders: vec![before_due(60), later, kept.clone()], ..created.clone() };
    let updated = ann.update(Task { etag: String::new(), ..update }, &["reminders"]).await.expect("updated");
    let ids: Vec<_> = updated.reminders.iter().map(|reminder| &reminder.id).collect();
    assert_eq!(&ids[1..], [&moved.id, &kept.id]);
    assert!(!created.reminders.iter().any(|reminder| reminder.id == *ids[0]), "a new id");
    assert_eq!(updated.reminders[2], *kept);
    assert_eq!(updated.reminders[1].fire_time, None, "it has another time");
    let cleared = ann.update(Task { id: created.id, ..Task::default() }, &["reminders"]).await.expect("updated");
    assert_eq!(cleared.reminders, []);
}

async fn changes_of_reminders_are_in_the_history(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.make("Buy milk").await;
    let reminders = vec![at(time("2030-05-01T09:00:00Z")), before_due(900)];
    let task = ann.update(Task { id: task.id, ..with(reminders) }, &["reminders"]).await.expect("updated");
    ann.snooze(&task, 1, time("2030-05-02T09:00:00Z")).await.expect("snoozed");
    let entries = ann.history(&task.id).await;
    let set = r#"[{"remindTime":"2030-05-01T09:00:00Z"},{"beforeDue":"900s"}]"#;
    let snoozed = r#"[{"remindTime":"2030-05-01T09:00:00Z"},{"beforeDue":"900s","snoozeTime":"2030-05-02T09:00:00Z"}]"#;
    let changes: Vec<_> =
        entries.iter().map(|entry| (&entry.field[..], &entry.old_value[..], &entry.new_value[..])).collect();
    assert_eq!(changes, [("reminders", set, snoozed), ("reminders", "", set), ("", "", "")]);
}

async fn exports_contain_reminders(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let due_time = Some(time("2030-05-01T10:00:00Z").into());
    let task = Task { due_time, ..with(vec![at(time("2030-05-01T09:00:00Z")), before_due(900)]) };
    let task = ann.create(task).await.expect("a task");
    let ids: Vec<_> = task.reminders.iter().map(|reminder| reminder.id.clone()).collect();
    let lines = ann.export(FileFormat::Jsonl).await;
    let line: serde_json::Value = serde_json::from_str(lines.lines().nth(2).expect("a task")).expect("JSON");
    let expected = serde_json::json!([
        {"id": ids[0], "remindTime": "2030-05-01T09:00:00Z"}, {"id": ids[1], "beforeDue": "900s"}]);
    assert_eq!(line["task"]["reminders"], expected);
    let calendar = ann.export(FileFormat::Icalendar).await.replace("\r\n ", "");
    for trigger in ["TRIGGER;VALUE=DATE-TIME:20300501T090000Z", "TRIGGER;RELATED=END:-PT900S"] {
        assert_eq!(calendar.lines().filter(|line| *line == trigger).count(), 1, "{calendar}");
    }
    assert_eq!(calendar.matches("BEGIN:VALARM").count(), 2);
}

async fn imports_keep_reminders_and_do_not_fire_them_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = ann.create(with(vec![at(service.clock.now()), before_due(-900)])).await.expect("a task");
    let fired = ann.task_after_firings(&task.id, 1).await;
    let fired = ann.acknowledge(&fired, 0).await.expect("acknowledged");
    for format in [FileFormat::Jsonl, FileFormat::Csv] {
        let bob = service.user();
        bob.import(format, &ann.export(format).await).await;
        let imported = bob.all_tasks().await.into_values().next().expect("a task");
        assert_eq!(imported.reminders, fired.reminders, "{format:?}");
    }
}
