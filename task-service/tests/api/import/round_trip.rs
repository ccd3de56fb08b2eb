//! Random tasks are exported, imported into another account, and exported again.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use prost_types::Timestamp;
use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{
    FileFormat, Recurrence, Task,
    recurrence::{Basis, CatchUp},
};

use super::{counts, jsonl};
use crate::support::Service;

on_each_database!(
    random_tasks_are_equal_after_a_round_trip,
    random_reminders_and_recurrences_are_equal_after_a_round_trip,
);

const CASES: usize = 12;

/// A task, the index of its parent, and the index of its list.
type Case = (Task, Option<usize>, Option<usize>);

fn task() -> impl Strategy<Value = Case> {
    let text = "[a-z =+@',;\"\\\\ü😀\u{2028}]{1,30}[a-z]";
    let due = prop_oneof![
        Just((String::new(), None)),
        Just(("0001-01-01".to_owned(), None)),
        Just(("9999-12-31".to_owned(), None)),
        (-62_135_596_800_i64..=253_402_300_799, 0..1_000_000)
            .prop_map(|(seconds, micros)| (String::new(), Some(Timestamp { seconds, nanos: micros * 1000 }))),
    ];
    let fields = (text, "([a-z\"',;\\\\ü\t\r\n]{0,40})?", due, 0..4_i32, vec("[ a-z,\"'=]{0,8}[a-z]", 0..4));
    let fields = (fields, prop_oneof![Just(""), Just("Europe/Berlin")], any::<bool>());
    (fields, option::of(0..10_usize), option::of(0..3_usize)).prop_map(
        |((fields, zone, is_completed), parent, list)| {
            let (title, notes, (due_date, due_time), priority, mut labels) = fields;
            labels.sort_unstable();
            labels.dedup();
            let state = i32::from(is_completed);
            let time_zone = zone.to_owned();
            let recurrence = (!is_completed && due_date == "0001-01-01").then(|| Recurrence {
                rrule: "FREQ=WEEKLY;BYDAY=MO,FR;COUNT=9".to_owned(),
                basis: Basis::Completion.into(),
                catch_up: CatchUp::Each.into(),
            });
            let dated = Task { due_date, due_time, time_zone, recurrence, ..Task::default() };
            (Task { title, notes, priority, labels, state, ..dated }, parent, list)
        },
    )
}

async fn random_tasks_are_equal_after_a_round_trip(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let cases = vec(task(), 0..20).new_tree(&mut runner).expect("a value").current();
        let [ann, bob, cat, dan] = [(); 4].map(|()| service.user());
        let lists = [ann.make_list("=Errands").await, ann.make_list("Work, \"etc\"").await, ann.make_list("x").await];
        let mut created: Vec<Task> = Vec::new();
        for (task, parent, list) in cases {
            let parent_id = parent.and_then(|index| created.get(index)).filter(|parent| parent.parent_id.is_empty());
            let parent_id = parent_id.map(|parent| parent.id.clone()).unwrap_or_default();
            let list_id = list.filter(|_| parent_id.is_empty()).map(|list| lists[list].id.clone()).unwrap_or_default();
            let is_completed = task.state == 1;
            let task = ann.create(Task { parent_id, list_id, ..task }).await.expect("the task is created");
            if is_completed {
                ann.complete(&task.id, "").await.expect("it is completed");
            }
            created.push(task);
        }
        service.manual_clock.advance(std::time::Duration::from_millis(1234));
        for (user, format) in [(bob, FileFormat::Jsonl), (cat, FileFormat::Csv)] {
            let file = ann.export(format).await;
            let response = user.import(format, &file).await;
            assert_eq!((counts(&response)[0], response.issue_count), (i32::try_from(created.len()).expect("few"), 0));
            assert_eq!(user.export(format).await, file);
            assert_eq!(counts(&user.import(format, &file).await)[0], 0);
        }
        let file = ann.export(FileFormat::Icalendar).await;
        let response = dan.import(FileFormat::Icalendar, &file).await;
        assert_eq!((counts(&response)[0], response.issue_count), (i32::try_from(created.len()).expect("few"), 0));
        assert_eq!(dan.export(FileFormat::Icalendar).await, file);
        assert_eq!(counts(&dan.import(FileFormat::Icalendar, &file).await)[0], 0);
    }
}

/// A reminder with its state, as in JSON Lines. One that has not fired has a time in the distant future, so that it does not
/// fire during the test.
fn reminder() -> impl Strategy<Value = serde_json::Value> {
    let pending = (0..9_i64, 0..3_u32).prop_map(|(hour, kind)| {
        let time = format!("9998-01-01T0{hour}:30:00.123456Z");
        match kind {
            0 => serde_json::json!({ "remindTime": time }),
            1 => serde_json::json!({ "beforeDue": "900s", "snoozeTime": time }),
            _ => serde_json::json!({ "remindTime": time, "snoozeTime": "9998-02-01T00:00:00Z" }),
        }
    });
    let fired = (-86_399..=31_622_400_i64, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(seconds, is_relative, late, is_acknowledged)| {
            let mut reminder = serde_json::json!({ "fireTime": "2020-01-01T00:00:00.5Z", "late": late });
            if is_relative {
                reminder["beforeDue"] = format!("{seconds}s").into();
            } else {
                reminder["remindTime"] = "2020-01-01T00:00:00Z".into();
            }
            if is_acknowledged {
                reminder["acknowledgeTime"] = "2020-01-02T03:04:05.678Z".into();
            }
            reminder
        },
    );
    prop_oneof![pending, fired]
}

/// The line of a task with a recurrence and reminders.
fn recurring_task() -> impl Strategy<Value = serde_json::Value> {
    let due = prop_oneof![
        Just(serde_json::json!({ "dueDate": "2020-01-31" })),
        Just(serde_json::json!({ "dueTime": "2020-02-29T12:34:56.789Z", "timeZone": "Europe/Berlin" })),
    ];
    let rrule =
        prop_oneof![Just("FREQ=MONTHLY;BYMONTHDAY=-1,15"), Just("RSCALE=GREGORIAN;FREQ=YEARLY;COUNT=3;SKIP=FORWARD")];
    let basis = prop_oneof![Just("BASIS_DUE"), Just("BASIS_COMPLETION")];
    let catch_up = prop_oneof![Just("CATCH_UP_SKIP"), Just("CATCH_UP_EACH")];
    (due, option::of((rrule, basis, catch_up)), vec(reminder(), 0..=5)).prop_map(|(mut task, recurrence, reminders)| {
        if let Some((rrule, basis, catch_up)) = recurrence {
            task["recurrence"] = serde_json::json!({ "rrule": rrule, "basis": basis, "catchUp": catch_up });
        }
        task["title"] = "Pay, the rent".into();
        task["reminders"] = reminders.into();
        task
    })
}

async fn random_reminders_and_recurrences_are_equal_after_a_round_trip(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut runner = TestRunner::deterministic();
    let [ann, bob, cat, dan] = [(); 4].map(|()| service.user());
    let tasks = vec(recurring_task(), 60).new_tree(&mut runner).expect("a value").current();
    let lines = tasks.iter().map(|task| {
        let mut line = task.clone();
        line["id"] = service.clock.new_id().to_string().into();
        serde_json::json!({ "task": line }).to_string()
    });
    let response = ann.import(FileFormat::Jsonl, &jsonl(&lines.collect::<Vec<_>>())).await;
    assert_eq!((counts(&response), response.issue_count), ([60, 0, 0], 0));
    for task in ann.all_tasks().await.values() {
        assert!(task.reminders.iter().all(|reminder| !reminder.id.is_empty()));
    }
    for (user, format) in [(bob, FileFormat::Jsonl), (cat, FileFormat::Csv), (dan, FileFormat::Icalendar)] {
        let file = ann.export(format).await;
        let response = user.import(format, &file).await;
        assert_eq!((counts(&response), response.issue_count), ([60, 0, 0], 0), "{format:?}");
        assert_eq!(user.export(format).await, file, "{format:?}");
    }
    // The import has lost nothing that the file contained.
    let exported = ann.export(FileFormat::Jsonl).await;
    let fields = |line: &serde_json::Value| [line["recurrence"].clone(), states(&line["reminders"])];
    let lines = exported.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let found: Vec<_> = lines.filter(|line| line["task"].is_object()).map(|line| fields(&line["task"])).collect();
    assert_eq!(found, tasks.iter().map(fields).collect::<Vec<_>>());
}

/// Returns the reminders without their ids, and without fields that are not set.
fn states(reminders: &serde_json::Value) -> serde_json::Value {
    let mut reminders = reminders.as_array().cloned().unwrap_or_default();
    for reminder in reminders.iter_mut().filter_map(serde_json::Value::as_object_mut) {
        reminder.retain(|name, value| name != "id" && value != false);
    }
    reminders.into()
}
