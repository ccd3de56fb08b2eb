use jiff::civil::{Date, DateTime};
use proptest::prelude::*;

use super::{
    super::{Rule, SearchBudget},
    rule, time,
};

fn list(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec(item, 1..5).prop_map(|items| items.join(","))
}

fn ordinal(max: i16) -> impl Strategy<Value = String> {
    prop_oneof![1..=max, -max..=-1].prop_map(|number| number.to_string())
}

fn weekday() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["MO", "TU", "WE", "TH", "FR", "SA", "SU"]).prop_map(str::to_owned)
}

/// Returns rules of which most are valid.
fn rules() -> impl Strategy<Value = Rule> {
    let frequency = prop::sample::select(vec!["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]);
    let numbered =
        (prop::option::of(ordinal(5)), weekday()).prop_map(|(number, day)| number.unwrap_or_default() + &day);
    let part = prop_oneof![
        (1..=30).prop_map(|number| format!("INTERVAL={number}")),
        (1..=40).prop_map(|number| format!("COUNT={number}")),
        list((1..=12i16).prop_map(|month| month.to_string())).prop_map(|list| format!("BYMONTH={list}")),
        list(ordinal(53)).prop_map(|list| format!("BYWEEKNO={list}")),
        list(ordinal(366)).prop_map(|list| format!("BYYEARDAY={list}")),
        list(ordinal(31)).prop_map(|list| format!("BYMONTHDAY={list}")),
        list(weekday()).prop_map(|list| format!("BYDAY={list}")),
        list(numbered).prop_map(|list| format!("BYDAY={list}")),
        list((0..24i16).prop_map(|hour| hour.to_string())).prop_map(|list| format!("BYHOUR={list}")),
        list(ordinal(9)).prop_map(|list| format!("BYSETPOS={list}")),
        weekday().prop_map(|day| format!("WKST={day}")),
        prop::sample::select(vec!["OMIT", "BACKWARD", "FORWARD"]).prop_map(|skip| format!("SKIP={skip}")),
    ];
    (frequency, prop::collection::vec(part, 0..5))
        .prop_map(|(frequency, parts)| format!("FREQ={frequency};{}", parts.join(";")))
        .prop_filter_map("the rule is invalid", |text| Rule::parse(text.trim_end_matches(';')).ok())
}

fn anchors() -> impl Strategy<Value = DateTime> {
    (0..20_000i64).prop_map(|days| {
        let first = Date::constant(1990, 1, 1).at(9, 15, 0, 0);
        first + jiff::SignedDuration::from_hours(24 * days)
    })
}

proptest! {
    // A search that finds nothing takes up to half a second without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_canonical_form_is_that_of_the_same_rule(rule in rules()) {
        let canonical = rule.to_string();
        prop_assert_eq!(Rule::parse_unbounded(&canonical), Ok(rule));
    }

    #[test]
    fn occurrences_increase_from_the_anchor(rule in rules(), anchor in anchors()) {
        let times: Vec<_> = rule.occurrences(anchor).take(50).collect();
        prop_assert!(times.first().is_none_or(|first| *first >= anchor), "{rule} {anchor} {times:?}");
        prop_assert!(times.is_sorted_by(|a, b| a < b), "{rule} {anchor} {times:?}");
    }

    #[test]
    fn the_next_occurrence_is_the_first_later_one(rule in rules(), anchor in anchors(), hours in 0..100_000i64) {
        let time = anchor + jiff::SignedDuration::from_hours(hours);
        let later = rule.occurrences(anchor).take(3000).find(|occurrence| *occurrence > time);
        if let Some(later) = later {
            prop_assert_eq!(rule.next_after(anchor, time, &mut SearchBudget::default()), Some(later), "{} {} {}", rule, anchor, time);
        }
    }

    #[test]
    fn a_rule_with_a_count_is_the_beginning_of_the_rule_without_it(count in 1..40usize, anchor in anchors()) {
        let counted = rule(&format!("FREQ=MONTHLY;BYDAY=MO,-1FR;COUNT={count}"));
        let endless = rule("FREQ=MONTHLY;BYDAY=MO,-1FR");
        prop_assert!(counted.occurrences(anchor).eq(endless.occurrences(anchor).take(count)));
    }
}

#[test]
fn an_iterator_that_has_ended_stays_ended() {
    let mut occurrences = rule("FREQ=DAILY;COUNT=1").occurrences(time("2026-11-30T09:00"));
    assert_eq!(occurrences.next(), Some(time("2026-11-30T09:00")));
    assert_eq!((occurrences.next(), occurrences.next()), (None, None));
}
