//! Alarms of iCalendar, which become reminders.

use service_kit::{on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, ImportTasksResponse, Reminder, Task, reminder::Time};

use super::{
    formats::{before_due, reminder_times, time},
    issues,
};
use crate::support::{Service, User};

on_each_database!(
    alarms_before_the_due_date_become_relative_reminders,
    alarms_at_a_time_become_absolute_reminders,
    acknowledged_alarms_do_not_fire_again,
    alarms_of_recurring_tasks_follow_the_due_date,
    what_is_lost_of_alarms_is_reported,
);

const ID: &str = "9f4a7c31-29d3-4c0b-9c6b-0e0a2f7b5d11";

/// Imports a task with these properties and alarms. Returns it and the report.
async fn import(user: &User, properties: &str, alarms: &[&str]) -> (Task, ImportTasksResponse) {
    let alarms: String = alarms.iter().flat_map(|alarm| ["BEGIN:VALARM\n", *alarm, "\nEND:VALARM\n"]).collect();
    let task = format!("BEGIN:VTODO\nUID:{ID}\nSUMMARY:Buy milk\n{properties}{alarms}END:VTODO\n");
    let file = format!("BEGIN:VCALENDAR\nVERSION:2.0\n{task}END:VCALENDAR\n");
    let response = user.import(FileFormat::Icalendar, &file).await;
    (user.titled("Buy milk").await, response)
}

async fn alarms_before_the_due_date_become_relative_reminders(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (properties, trigger, seconds) in [
        ("DUE:20901201T170000Z\n", "TRIGGER;RELATED=END:-PT15M", 900),
        ("DUE:20901201T170000Z\n", "TRIGGER;RELATED=END:-P1DT2H", 93_600),
        ("DUE:20901201T170000Z\n", "TRIGGER;RELATED=END:+PT1M", -60),
        ("DUE:20901201T170000Z\n", "TRIGGER;RELATED=END:-P1W", 604_800),
        // Relative to the due date, because there is no start.
        ("DUE:20901201T170000Z\n", "TRIGGER:-PT15M", 900),
        ("DTSTART:20901201T170000Z\nDUE:20901201T170000Z\n", "TRIGGER:-PT15M", 900),
        ("DTSTART:20901201T160000Z\nDUE:20901201T170000Z\n", "TRIGGER;RELATED=START:-PT15M", 4500),
        ("DUE;TZID=Europe/Berlin:20901201T180000\n", "TRIGGER;RELATED=END:PT0S", 0),
        // Relative to the start of the day.
        ("DUE;VALUE=DATE:20901201\n", "TRIGGER;RELATED=END:PT9H", -32_400),
        ("DTSTART;VALUE=DATE:20901130\nDUE;VALUE=DATE:20901201\n", "TRIGGER:PT9H", 54_000),
        // The time of the day is not imported, but the alarm stays at 17:45.
        ("DUE:20901201T180000\n", "TRIGGER;RELATED=END:-PT15M", -63_900),
        ("", "TRIGGER;RELATED=END:-PT15M", 900),
    ] {
        let (task, _) = import(&service.user(), properties, &[trigger]).await;
        assert_eq!(reminder_times(&task), [before_due(seconds)], "{properties} {trigger}");
    }
}

async fn alarms_at_a_time_become_absolute_reminders(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (properties, trigger) in [
        ("DUE:20901201T170000Z\n", "TRIGGER;VALUE=DATE-TIME:20901201T160000Z"),
        ("", "TRIGGER;VALUE=DATE-TIME:20901201T160000Z"),
        ("", "TRIGGER;VALUE=DATE-TIME;TZID=Europe/Berlin:20901201T170000"),
        ("DTSTART:20901201T163000Z\n", "TRIGGER:-PT30M"),
        ("DTSTART;VALUE=DATE:20901201\nX-TASKEY-TIME-ZONE:Europe/Berlin\n", "TRIGGER:PT17H"),
    ] {
        let alarm = format!("UID:{}\nACTION:AUDIO\n{trigger}", ID.to_uppercase());
        let (task, _) = import(&service.user(), properties, &[&alarm]).await;
        let remind_time = Some(Time::RemindTime(time("2090-12-01T16:00:00Z")));
        let expected = Reminder { id: ID.to_owned(), time: remind_time, ..Reminder::default() };
        assert_eq!(task.reminders, [expected], "{properties} {trigger}");
    }
}

async fn acknowledged_alarms_do_not_fire_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let acknowledged = Some(time("2020-05-01T10:05:00Z"));
    for trigger in ["TRIGGER;VALUE=DATE-TIME:20200501T100000Z", "TRIGGER;RELATED=END:-PT15M"] {
        let alarm = format!("ACTION:DISPLAY\nACKNOWLEDGED:20200501T100500Z\n{trigger}");
        let (task, response) = import(&service.user(), "DUE:20200501T101500Z\n", &[&alarm]).await;
        let Reminder { fire_time, acknowledge_time, late, .. } = task.reminders[0];
        assert_eq!((fire_time, acknowledge_time, late), (acknowledged, acknowledged, false), "{trigger}");
        assert_eq!(response.issue_count, 0, "{trigger}");
    }
    // It was acknowledged before another time was set.
    let alarm = "ACTION:DISPLAY\nTRIGGER;VALUE=DATE-TIME:20901201T160000Z\nACKNOWLEDGED:20200501T100500Z";
    let (task, response) = import(&service.user(), "", &[alarm]).await;
    assert_eq!((task.reminders[0].fire_time, task.reminders[0].acknowledge_time), (None, None));
    assert_eq!(issues(&response), [(9, "ACKNOWLEDGED", "is before the alarm, and is not imported")]);
}

async fn alarms_of_recurring_tasks_follow_the_due_date(database: TestDatabase) {
    let service = Service::start(&database).await;
    let alarm = "ACTION:DISPLAY\nTRIGGER;VALUE=DATE-TIME:20901201T160000Z";
    let weekly = "DUE:20901201T170000Z\nRRULE:FREQ=WEEKLY\n";
    let (task, response) = import(&service.user(), weekly, &[alarm]).await;
    assert_eq!((reminder_times(&task), response.issue_count), (vec![before_due(3600)], 0));
    let distant = "DUE:20881201T170000Z\nRRULE:FREQ=WEEKLY\n";
    let (task, response) = import(&service.user(), distant, &[alarm]).await;
    assert_eq!(reminder_times(&task), [Time::RemindTime(time("2090-12-01T16:00:00Z"))]);
    assert_eq!(issues(&response), [(8, "TRIGGER", "is a time; only the first occurrence has the reminder")]);
}

async fn what_is_lost_of_alarms_is_reported(database: TestDatabase) {
    let service = Service::start(&database).await;
    let at = "TRIGGER;VALUE=DATE-TIME:20901201T160000Z";
    let id = ["UID:9f4a7c31-29d3-4c0b-9c6b-0e0a2f7b5d12", "X-WR-ALARMUID:9f4a7c31-29d3-4c0b-9c6b-0e0a2f7b5d13"];
    let mail = format!("ACTION:EMAIL\nATTENDEE:mailto:ann@example.com\nDESCRIPTION:Hurry\n{at}");
    let repeated = format!("ACTION:DISPLAY\nDESCRIPTION:Buy milk\nREPEAT:2\nDURATION:PT5M\n{at}");
    let other_ids = format!("ACTION:DISPLAY\n{}\n{}\n{at}", id[0], id[1]);
    let same_id = format!("ACTION:DISPLAY\nUID:A1\n{}\n{at}", id[0].replace("UID", "X-WR-ALARMUID"));
    let unknown = format!("ACTION:X-LAMP\n{at}");
    let invalid = "ACTION:DISPLAY\nTRIGGER:soon\nACKNOWLEDGED:now";
    let alarms = [
        &mail,
        &repeated,
        &other_ids,
        &same_id,
        &unknown,
        invalid,
        "ACTION:NONE\nTRIGGER;VALUE=DATE-TIME:19760401T005545Z\nX-APPLE-DEFAULT-ALARM:TRUE",
        "ACTION:DISPLAY\nTRIGGER;RELATED=END:-P2Y",
        "ACTION:DISPLAY\nTRIGGER;RELATED=END:-P400D",
        &format!("ACTION:DISPLAY\nDESCRIPTION:Reminder\n{at}"),
    ];
    let user = service.user();
    let dates = "DTSTART:20901101T170000Z\nDUE:20901201T170000Z\nDUE;VALUE=DATE:20901202\n";
    let (task, response) = import(&user, dates, &alarms).await;
    let mut found: Vec<_> = issues(&response).into_iter().map(|(_, field, text)| (field, text)).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("ACKNOWLEDGED", "is not a time in UTC, and is not imported"),
            ("ACTION", "is EMAIL; the reminder sends no mail"),
            ("ACTION", "is not known; the alarm is not imported"),
            ("ATTENDEE", "is not imported"),
            ("DESCRIPTION", "of the alarm is not imported"),
            ("DTSTART", "is not imported"),
            ("DUE", "is the second due date, and is not imported"),
            ("DURATION", "is not imported"),
            ("REPEAT", "is not imported"),
            ("TRIGGER", "is not within 366 days before the due date and a day after it"),
            ("UID", "is not a UUID; the reminder has a new id"),
            ("UID", "is that of another alarm; the reminder has a new id"),
            ("VALARM", "has no TRIGGER with a duration or a time, and is not imported"),
            ("VALARM", "has no TRIGGER with a duration or a time, and is not imported"),
            ("VALARM", "is not imported, because a task has at most 5 reminders"),
            ("X-WR-ALARMUID", "differs from the other id of the alarm, and is not imported"),
        ]
    );
    assert_eq!(reminder_times(&task), vec![Time::RemindTime(time("2090-12-01T16:00:00Z")); 4]);
}
