use jiff::tz::TimeZone;

use super::{rule, time};

fn zone(name: &str) -> TimeZone {
    jiff::tz::db().get(name).expect("the zone is in the bundled database")
}

/// Returns the first instants of a series, in UTC.
fn instants(text: &str, anchor: &str, zone_name: &str, count: usize) -> Vec<String> {
    rule(text).instants(time(anchor), zone(zone_name)).take(count).map(|instant| instant.to_string()).collect()
}

#[test]
fn the_time_of_day_stays_the_same_when_clocks_change() {
    assert_eq!(
        instants("FREQ=DAILY", "2026-03-28T09:00", "Europe/Berlin", 3),
        ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"]
    );
}

#[test]
fn a_skipped_time_moves_later_and_does_not_affect_the_next_day() {
    assert_eq!(
        instants("FREQ=DAILY", "2026-03-28T02:30", "Europe/Berlin", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn the_first_of_a_repeated_time_counts() {
    assert_eq!(
        instants("FREQ=DAILY", "2026-10-24T02:30", "Europe/Berlin", 3),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
}

#[test]
fn times_around_a_gap_are_in_order_and_occur_once() {
    assert_eq!(
        instants("FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30", "2026-03-29T00:00", "Europe/Berlin", 3),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"]
    );
    assert_eq!(
        instants("FREQ=DAILY;BYHOUR=2,3;BYMINUTE=15,30", "2026-03-29T00:00", "Europe/Berlin", 3),
        ["2026-03-29T01:15:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:15:00Z"]
    );
    // Samoa had no 30th of December 2011.
    assert_eq!(
        instants("FREQ=DAILY", "2011-12-29T09:00", "Pacific/Apia", 3),
        ["2011-12-29T19:00:00Z", "2011-12-30T19:00:00Z", "2011-12-31T19:00:00Z"]
    );
}

#[test]
fn the_last_time_in_utc_is_included() {
    let until =
        |time: &str| instants(&format!("FREQ=DAILY;UNTIL={time}"), "2026-11-30T20:00", "America/Santiago", 9).len();
    assert_eq!(until("20261202T230000Z"), 3);
    assert_eq!(until("20261202T225959Z"), 2);
    assert_eq!(until("20261202T195959"), 2);
    assert_eq!(until("20261202"), 3);
}

#[test]
fn the_31st_in_santiago_never_drifts_in_ten_years() {
    let zone = zone("America/Santiago");
    let anchor = time("2026-01-31T23:30");
    let times: Vec<_> = rule("FREQ=MONTHLY").instants(anchor, zone.clone()).take(121).collect();
    for (index, instant) in times.iter().enumerate() {
        let local = zone.to_datetime(*instant);
        assert_eq!(local.date(), local.date().last_of_month(), "{index}");
        assert_eq!(local.time(), anchor.time());
    }
    assert_eq!(times.last().map(|last| zone.to_datetime(*last).date().to_string()).as_deref(), Some("2036-01-31"));
}
