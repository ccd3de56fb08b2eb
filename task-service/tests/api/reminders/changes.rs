//! Changes of reminders by updates, and their history.

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    FileFormat, Reminder, Task, UpdateTaskRequest, batch_write_tasks_request::write::Write as Kind,
};

use super::{SOON, at, before_due, time, with};
use crate::support::{Service, User};

on_each_database!(
    an_update_keeps_the_reminders_whose_ids_and_times_it_repeats,
    an_update_cannot_change_the_output_only_fields_of_reminders,
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
    let later = Reminder { time: at(now + SOON).time, ..moved.clone() };
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

/// Returns an update of the reminders of a task.
fn update_of(task: &Task, reminders: Vec<Reminder>) -> UpdateTaskRequest {
    let update_mask = Some(prost_types::FieldMask { paths: vec!["reminders".to_owned()] });
    let task = Some(Task { id: task.id.clone(), reminders, ..Task::default() });
    UpdateTaskRequest { task, update_mask, ..UpdateTaskRequest::default() }
}

/// Returns a task with a reminder that has fired late and was acknowledged, and with a snoozed one.
async fn make_reminded(service: &Service, user: &User) -> Task {
    let now = service.clock.now();
    let task = user.create(with(vec![at(time("2020-05-01T09:00:00Z")), at(now + SOON)])).await.expect("a task");
    user.task_after_firings(&task.id, 1).await;
    user.acknowledge(&task, 0).await.expect("acknowledged");
    user.snooze(&task, 1, now + 2 * SOON).await.expect("snoozed")
}

async fn an_update_cannot_change_the_output_only_fields_of_reminders(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let task = make_reminded(&service, &ann).await;
    let [fired, snoozed] = &task.reminders[..] else { panic!("{task:?}") };
    let other = Some(time("2030-05-01T09:00:00Z").into());
    assert!(fired.late && fired.acknowledge_time.is_some() && snoozed.snooze_time.is_some(), "{task:?}");
    for (index, changed, field) in [
        (0, Reminder { acknowledge_time: other, ..fired.clone() }, "acknowledge_time"),
        (0, Reminder { fire_time: other, ..fired.clone() }, "fire_time"),
        (0, Reminder { snooze_time: other, ..fired.clone() }, "snooze_time"),
        (1, Reminder { snooze_time: other, ..snoozed.clone() }, "snooze_time"),
        (1, Reminder { late: true, ..snoozed.clone() }, "late"),
        (1, Reminder { acknowledge_time: other, ..snoozed.clone() }, "acknowledge_time"),
        // A new reminder has none of these fields.
        (1, Reminder { fire_time: fired.fire_time, ..before_due(60) }, "fire_time"),
        (1, Reminder { id: ann.new_id(), late: true, ..before_due(60) }, "late"),
    ] {
        let mut reminders = task.reminders.clone();
        reminders[index] = changed;
        let path = format!("task.reminders[{index}].{field}");
        let update = update_of(&task, reminders);
        let refused = ann.client.clone().update_task(update.clone()).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", &path);
        let refused = ann.batch([Kind::Update(update)]).await;
        assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", format!("writes[0].update.{path}"));
    }
    assert_eq!(ann.get(&task.id).await.expect("it exists"), task);

    // The current values, or none at all, are accepted, in any order.
    let without_outputs =
        |reminder: &Reminder| Reminder { id: reminder.id.clone(), time: reminder.time, ..Reminder::default() };
    for reminders in [
        vec![snoozed.clone(), fired.clone()],
        vec![without_outputs(fired), without_outputs(snoozed)],
        vec![fired.clone(), snoozed.clone()],
    ] {
        let expected: Vec<_> = reminders.iter().map(|sent| if sent.id == fired.id { fired } else { snoozed }).collect();
        let updated = ann.client.clone().update_task(update_of(&task, reminders.clone())).await.expect("updated");
        assert_eq!(updated.into_inner().reminders.iter().collect::<Vec<_>>(), expected);
    }
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
