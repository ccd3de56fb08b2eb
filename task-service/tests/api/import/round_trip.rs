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

use super::counts;
use crate::support::Service;

on_each_database!(random_tasks_are_equal_after_a_round_trip);

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

/// Returns the lines of a calendar, except those that belong to one copy of a task.
fn without_versions(calendar: &str) -> Vec<&str> {
    let is_version = |line: &&str| line.starts_with("DTSTAMP:") || line.starts_with("LAST-MODIFIED:");
    calendar.lines().filter(|line| !is_version(line)).collect()
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
        assert_eq!(without_versions(&dan.export(FileFormat::Icalendar).await), without_versions(&file));
    }
}
