//! The occurrences of tasks.

use jiff::{Timestamp as Instant, ToSpan, tz::TimeZone};
use proptest::{prelude::*, sample::select};
use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::{
    super::{Basis, CatchUp, Ending, Occurrence, Recurrence, SearchBudget, Slot},
    rule, time,
};

const SERIES: Uuid = Uuid::from_u128(0x5e_71e5);

fn first(text: &str, basis: Basis, slot: Slot) -> Occurrence {
    let recurrence = Recurrence { rule: rule(text), basis, catch_up: CatchUp::Skip };
    Occurrence::first(SERIES, recurrence, slot)
}

/// Returns the occurrence that follows when this one is completed.
fn complete(occurrence: &Occurrence, zone: &str, now: &str) -> Option<Occurrence> {
    occurrence.next(zone, micros(now), Ending::Completed, &mut SearchBudget::default())
}

fn micros(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<Instant>().expect(text).as_microsecond())
}

#[test]
fn a_zone_that_is_not_in_the_database_any_more_counts_as_utc() {
    for basis in [Basis::Due, Basis::Completion] {
        let occurrence = first("FREQ=DAILY", basis, Slot::Time(time("2026-11-30T09:00")));
        let next = complete(&occurrence, "Atlantis/Capital", "2026-11-30T20:30:00Z");
        assert_eq!(next.map(|next| next.schedule.slot), Some(Slot::Time(time("2026-12-01T09:00"))));
    }
}

#[test]
fn the_calendar_ends_with_the_last_occurrence() {
    let last = first("FREQ=DAILY", Basis::Due, Slot::Date(time("9999-12-31T00:00").date()));
    assert!(complete(&last, "", "2026-11-30T00:00:00Z").is_none());
}

#[test]
fn stored_occurrence_begins_with_its_series_and_number() {
    for slot in [Slot::Date(time("2026-11-30T00:00").date()), Slot::Time(time("2026-11-30T09:00:00.000001"))] {
        let first = first("FREQ=MONTHLY;SKIP=OMIT;COUNT=3", Basis::Completion, slot);
        let next = complete(&first, "", "2026-12-05T00:00:00Z").expect("it recurs");
        for occurrence in [Occurrence { next_task_id: Some(Uuid::from_u128(7)), ..first }, next] {
            let stored = occurrence.to_stored();
            assert_eq!(&stored[..42], format!("{}{:010}", SERIES.simple(), occurrence.number));
            let parsed = Occurrence::from_stored(&stored).expect("it was stored");
            assert_eq!((parsed.series_id, parsed.number), (SERIES, occurrence.number));
            assert_eq!((parsed.next_task_id, parsed.schedule), (occurrence.next_task_id, occurrence.schedule));
        }
    }
    for invalid in ["", "5e71e5", &"0".repeat(74), &"€".repeat(40)] {
        assert!(Occurrence::from_stored(invalid).is_none(), "{invalid:?}");
    }
}

proptest! {
    #[test]
    fn next_instant_is_that_of_the_whole_series(
        text in select(vec![
            "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=15,45",
            "FREQ=MONTHLY",
            "FREQ=MONTHLY;SKIP=FORWARD",
            "FREQ=WEEKLY;INTERVAL=3;BYDAY=SU,SA",
            "FREQ=DAILY;COUNT=300",
            "FREQ=DAILY;UNTIL=20270601T000000Z",
            "FREQ=YEARLY;BYYEARDAY=-1,60,366;BYHOUR=0,2",
        ]),
        zone in select(vec!["Europe/Berlin", "America/Santiago", "Pacific/Apia", "Asia/Beirut"]),
        minutes in 0..2_000_000_i64,
    ) {
        let (rule, anchor) = (rule(text), time("2026-01-31T02:30"));
        let zone = TimeZone::get(zone).expect("the zone is in the bundled database");
        let after = zone.to_timestamp(anchor).expect("a time").checked_add(minutes.minutes()).expect("a time");
        let expected = rule.instants(anchor, zone.clone()).find(|instant| *instant > after);
        prop_assert_eq!(rule.instant_after(anchor, &zone, after, &mut SearchBudget::default()), expected);
    }
}
