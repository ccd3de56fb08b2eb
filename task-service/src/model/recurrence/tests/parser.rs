use super::{
    super::{Rule, parse::MAX_BYTES},
    rule,
};

#[test]
fn canonical_form_is_upper_case_sorted_and_without_defaults() {
    let examples = [
        ("rrule:freq=daily", "FREQ=DAILY"),
        ("INTERVAL=1;WKST=MO;FREQ=WEEKLY;BYDAY=WE,MO,MO", "FREQ=WEEKLY;BYDAY=MO,WE"),
        ("FREQ=MONTHLY;BYDAY=+2TU,-1FR,SU", "FREQ=MONTHLY;BYDAY=-1FR,SU,2TU"),
        ("FREQ=MONTHLY;SKIP=OMIT;BYMONTHDAY=031,-1", "RSCALE=GREGORIAN;FREQ=MONTHLY;BYMONTHDAY=-1,31;SKIP=OMIT"),
        ("FREQ=YEARLY;UNTIL=20261231t090000z", "FREQ=YEARLY;UNTIL=20261231T090000Z"),
        ("FREQ=YEARLY;UNTIL=20261231", "FREQ=YEARLY;UNTIL=20261231"),
        ("FREQ=DAILY;COUNT=10000;INTERVAL=1000;BYHOUR=9,17", "FREQ=DAILY;INTERVAL=1000;COUNT=10000;BYHOUR=9,17"),
        (
            "FREQ=YEARLY;WKST=SU;BYWEEKNO=-53,53;BYMONTH=12;BYSETPOS=-1",
            "FREQ=YEARLY;BYMONTH=12;BYWEEKNO=-53,53;BYSETPOS=-1;WKST=SU",
        ),
    ];
    for (text, canonical) in examples {
        assert_eq!(rule(text).to_string(), canonical);
        assert_eq!(rule(canonical), rule(text));
    }
}

#[test]
fn an_invalid_rule_is_refused_with_the_column_of_the_error() {
    let list = "BYDAY must be a list of MO, TU, WE, TH, FR, SA, SU, each with an optional number from 1 to 53 or from -1 to -53";
    let frequency = "FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY";
    let until = "UNTIL must be a date such as 20261231, or a time such as 20261231T090000 or 20261231T090000Z";
    let form = "a part must have the form NAME=VALUE";
    let examples = [
        ("", 1, form),
        ("FREQ=DAILY;", 12, form),
        ("FREQ=SECONDLY", 6, frequency),
        ("FREQ=HOURLY", 6, frequency),
        ("FREQ=", 6, frequency),
        ("RRULE:FREQ=X", 12, frequency),
        ("BYDAY=MO", 1, "a rule must have the part FREQ"),
        ("FREQ=DAILY;FREQ=DAILY", 12, "FREQ must not be repeated"),
        ("FREQ=DAILY;COUNT=1000000000", 18, "COUNT must be from 1 to 10000"),
        ("FREQ=DAILY;COUNT=99999999999999999999", 18, "COUNT must be from 1 to 10000"),
        ("FREQ=DAILY;COUNT=0", 18, "COUNT must be from 1 to 10000"),
        ("FREQ=DAILY;COUNT=+1", 18, "COUNT must be from 1 to 10000"),
        ("FREQ=DAILY;INTERVAL=1001", 21, "INTERVAL must be from 1 to 1000"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20261231", 20, "a rule must not have both COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=20261231;COUNT=2", 27, "a rule must not have both COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=20260230", 18, until),
        ("FREQ=DAILY;UNTIL=2026123é", 18, until),
        ("FREQ=DAILY;UNTIL=20261231T250000", 18, until),
        ("FREQ=DAILY;UNTIL=20261231T", 18, until),
        ("FREQ=MONTHLY;BYDAY=MO,é", 23, list),
        ("FREQ=MONTHLY;BYDAY=54MO", 20, list),
        ("FREQ=MONTHLY;BYDAY=0MO", 20, list),
        ("FREQ=MONTHLY;BYDAY=", 20, list),
        ("FREQ=MONTHLY;BYMONTHDAY=31,32", 28, "BYMONTHDAY must be from 1 to 31 or from -1 to -31"),
        ("FREQ=MONTHLY;BYMONTHDAY=--1", 25, "BYMONTHDAY must be from 1 to 31 or from -1 to -31"),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=367", 32, "BYSETPOS must be from 1 to 366 or from -1 to -366"),
        ("FREQ=MONTHLY;BYSETPOS=1", 14, "BYSETPOS requires another BY part"),
        ("FREQ=YEARLY;BYMONTH=-1", 21, "BYMONTH must be from 1 to 12"),
        ("FREQ=DAILY;BYSECOND=60", 21, "BYSECOND must be from 0 to 59"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", 13, "BYMONTHDAY cannot be used with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYYEARDAY=1", 14, "BYYEARDAY requires FREQ=YEARLY"),
        ("BYWEEKNO=1;FREQ=MONTHLY", 1, "BYWEEKNO requires FREQ=YEARLY"),
        ("FREQ=WEEKLY;BYDAY=1MO", 13, "numbers in BYDAY require FREQ=MONTHLY or FREQ=YEARLY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", 24, "numbers in BYDAY cannot be used with BYWEEKNO"),
        ("FREQ=DAILY;WKST=1MO", 17, "WKST must be one of MO, TU, WE, TH, FR, SA, SU"),
        ("FREQ=DAILY;RSCALE=CHINESE", 19, "RSCALE must be GREGORIAN"),
        ("FREQ=DAILY;SKIP=NEVER", 17, "SKIP must be one of OMIT, BACKWARD, FORWARD"),
        ("FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=1,2,3,4,5", 12, "a rule must have at most 24 occurrences per day"),
    ];
    for (text, column, description) in examples {
        let error = Rule::parse(text).expect_err(text);
        assert_eq!((error.column, error.description.as_str()), (column, description), "{text}");
    }
    let error = Rule::parse("FREQ=DAILY;X=1").expect_err("the part is unknown");
    assert!(error.column == 12 && error.description.starts_with("unknown part; the parts are RSCALE, FREQ"), "{error}");
}

#[test]
fn a_rule_that_is_too_long_is_refused() {
    let days = vec!["MO"; 1400].join(",");
    let error = Rule::parse(&format!("FREQ=WEEKLY;BYDAY={days}")).expect_err("the rule has 4 KiB");
    assert_eq!(error.to_string(), format!("column {}: a rule must have at most 500 bytes", MAX_BYTES + 1));
}
