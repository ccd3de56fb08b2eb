//! The examples of RFC 5545, section 3.8.5.3, and of RFC 7529, and the rules that other products get wrong.

use super::{
    super::expand::{MAX_DAYS_EXAMINED, SearchBudget},
    dates, rule, time,
};

#[test]
fn examples_of_rfc_5545_recur_as_they_state() {
    let examples = [
        ("FREQ=DAILY;COUNT=10", "1997-09-02", "1997-09-02 1997-09-03 1997-09-04 1997-09-05"),
        ("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02", "1997-09-02 1997-09-12 1997-09-22 1997-10-02"),
        ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", "1998-01-30", "1998-01-30 1998-01-31 1999-01-01 1999-01-02"),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", "1997-09-02", "1997-09-02 1997-09-16 1997-09-30 1997-10-14"),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=MO,WE,FR", "1997-09-01", "1997-09-01 1997-09-03 1997-09-05 1997-09-15"),
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "1997-08-05",
            "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "1997-08-05",
            "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
        ),
        ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05", "1997-09-05 1997-10-03 1997-11-07 1997-12-05"),
        (
            "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
            "1997-09-07",
            "1997-09-07 1997-09-28 1997-11-02 1997-11-30",
        ),
        ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22", "1997-09-22 1997-10-20 1997-11-17 1997-12-22"),
        ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28", "1997-09-28 1997-10-29 1997-11-28 1997-12-29"),
        ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", "1997-09-30", "1997-09-30 1997-10-01 1997-10-31 1997-11-01"),
        ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", "1997-06-10", "1997-06-10 1997-07-10 1998-06-10 1998-07-10"),
        (
            "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
            "1997-01-01",
            "1997-01-01 1997-04-10 1997-07-19 2000-01-01",
        ),
        ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19", "1997-05-19 1998-05-18 1999-05-17 2000-05-15"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12", "1997-05-12 1998-05-11 1999-05-17 2000-05-15"),
        ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13", "1997-03-13 1997-03-20 1997-03-27 1998-03-05"),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1997-09-02", "1998-02-13 1998-03-13 1998-11-13 1999-08-13"),
        (
            "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
            "1997-09-13",
            "1997-09-13 1997-10-11 1997-11-08 1997-12-13",
        ),
        (
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            "1996-11-05",
            "1996-11-05 2000-11-07 2004-11-02 2008-11-04",
        ),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04", "1997-09-04 1997-10-07 1997-11-06"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29", "1997-09-29 1997-10-30 1997-11-27 1997-12-30"),
        (
            "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5;SKIP=OMIT",
            "2007-01-15",
            "2007-01-15 2007-01-30 2007-02-15 2007-03-15",
        ),
    ];
    for (text, anchor, expected) in examples {
        assert_eq!(dates(text, anchor, expected.split(' ').count()), expected, "{text}");
    }
}

#[test]
fn a_day_that_the_month_does_not_have_is_omitted_or_replaced() {
    let examples = [
        ("FREQ=MONTHLY;SKIP=OMIT", "2026-01-31", "2026-01-31 2026-03-31 2026-05-31"),
        ("FREQ=MONTHLY;SKIP=BACKWARD", "2026-01-31", "2026-01-31 2026-02-28 2026-03-31"),
        ("FREQ=MONTHLY;SKIP=FORWARD", "2026-01-31", "2026-01-31 2026-03-01 2026-03-31"),
        ("FREQ=MONTHLY", "2026-01-30", "2026-01-30 2026-02-28 2026-03-30"),
        ("FREQ=YEARLY", "2024-02-29", "2024-02-29 2025-02-28 2026-02-28 2027-02-28 2028-02-29"),
        ("FREQ=YEARLY;SKIP=FORWARD", "2024-02-29", "2024-02-29 2025-03-01 2026-03-01 2027-03-01 2028-02-29"),
        ("FREQ=YEARLY;SKIP=OMIT", "2024-02-29", "2024-02-29 2028-02-29 2032-02-29"),
        (
            "FREQ=YEARLY;BYYEARDAY=366;SKIP=FORWARD",
            "2026-01-01",
            "2026-01-01 2027-01-01 2028-01-01 2028-12-31 2030-01-01",
        ),
        ("FREQ=MONTHLY;BYMONTHDAY=-31", "2026-05-01", "2026-05-01 2026-05-31 2026-07-01 2026-08-01 2026-08-31"),
    ];
    for (text, anchor, expected) in examples {
        assert_eq!(dates(text, anchor, expected.split(' ').count()), expected, "{text}");
    }
}

#[test]
fn a_replaced_day_that_is_listed_too_occurs_once() {
    assert_eq!(
        dates("FREQ=MONTHLY;BYMONTHDAY=28,29,30,31", "2026-02-01", 4),
        "2026-02-28 2026-03-28 2026-03-29 2026-03-30"
    );
    let forward = "FREQ=MONTHLY;BYMONTHDAY=1,31;SKIP=FORWARD";
    assert_eq!(dates(forward, "2026-04-02", 4), "2026-05-01 2026-05-31 2026-06-01 2026-07-01");
    let times = rule("FREQ=MONTHLY;BYMONTHDAY=1,31;BYHOUR=9,17;SKIP=FORWARD").occurrences(time("2026-04-30T00:00"));
    let times: Vec<_> = times.take(3).map(|time| time.to_string()).collect();
    assert_eq!(times, ["2026-05-01T09:00:00", "2026-05-01T17:00:00", "2026-05-31T09:00:00"]);
}

#[test]
fn the_31st_never_drifts_in_ten_years() {
    let rule = rule("FREQ=MONTHLY");
    let anchor = time("2026-01-31T09:00");
    let mut last = anchor;
    for month in 1..=120 {
        last = rule.next_after(anchor, last, &mut SearchBudget::default()).expect("the rule has no end");
        assert_eq!(last.date(), last.date().last_of_month());
        assert_eq!((last.year() - 2026) * 12 + i16::from(last.month()) - 1, month);
    }
}

#[test]
fn the_anchor_occurs_only_if_it_matches() {
    assert_eq!(dates("FREQ=WEEKLY;BYDAY=TU", "2026-11-30", 2), "2026-12-01 2026-12-08");
    assert_eq!(dates("FREQ=WEEKLY;BYDAY=TU;COUNT=1", "2026-11-30", 2), "2026-12-01");
}

#[test]
fn weeks_of_a_year_are_not_torn() {
    let monday = "FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1;BYDAY=MO";
    assert_eq!(dates(monday, "2024-12-30", 3), "2024-12-30 2027-01-04 2029-01-01");
    assert_eq!(dates("FREQ=YEARLY;BYWEEKNO=-1,53", "2026-12-31", 3), "2026-12-31 2027-12-30 2028-12-28");
    assert_eq!(dates("FREQ=YEARLY;BYWEEKNO=1;BYMONTHDAY=31", "2024-01-01", 2), "2024-12-31 2025-12-31");
}

#[test]
fn a_rule_ends_with_its_count_or_its_last_day() {
    assert_eq!(dates("FREQ=DAILY;COUNT=2", "2026-11-30", 9), "2026-11-30 2026-12-01");
    assert_eq!(dates("FREQ=DAILY;UNTIL=20261201", "2026-11-30", 9), "2026-11-30 2026-12-01");
    assert_eq!(dates("FREQ=DAILY;UNTIL=20261129", "2026-11-30", 9), "");
    let until = rule("FREQ=DAILY;UNTIL=20261201T090000").occurrences(time("2026-11-30T09:00"));
    assert_eq!(until.last(), Some(time("2026-12-01T09:00")));
}

#[test]
fn the_calendar_ends_with_the_year_9999() {
    assert_eq!(dates("FREQ=DAILY", "9999-12-30", 9), "9999-12-30 9999-12-31");
    assert_eq!(dates("FREQ=WEEKLY;INTERVAL=1000", "9999-12-30", 9), "9999-12-30");
    assert_eq!(dates("FREQ=MONTHLY;INTERVAL=1000", "9999-12-30", 9), "9999-12-30");
    assert_eq!(dates("FREQ=YEARLY;INTERVAL=1000;BYWEEKNO=52", "9999-12-30", 9), "9999-12-30");
}

/// Returns the numbers from 1 to `last`.
fn list(last: i16) -> String {
    (1..=last).map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn a_rule_without_occurrences_ends_within_the_bound() {
    let never = [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;SKIP=OMIT",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30;SKIP=OMIT",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
        "FREQ=MONTHLY;BYDAY=6MO",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=-2",
        "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
        // Many days are examined for each year.
        &format!("FREQ=YEARLY;BYWEEKNO={};BYMONTHDAY={};BYYEARDAY={};BYMONTH=12", list(53), list(31), list(40)),
    ];
    for text in never {
        assert_eq!(rule(text).occurrences(time("2026-01-01T00:00")).next(), None, "{text}");
    }
    // Monday, February 29, once in 28 years, or in 40 years around 2100.
    let rare = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO";
    assert_eq!(dates(rare, "2052-01-01", 3), "2072-02-29 2112-02-29 2140-02-29");
    const { assert!(MAX_DAYS_EXAMINED > 40 * 366) };
}
