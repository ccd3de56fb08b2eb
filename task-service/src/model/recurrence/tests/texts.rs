use super::{rule, time};

#[test]
fn rules_read_as_plain_english() {
    let examples = [
        ("FREQ=DAILY", "every day"),
        ("FREQ=DAILY;INTERVAL=3;COUNT=5", "every 3 days, 5 times"),
        ("FREQ=DAILY;BYMONTH=1,6,7;COUNT=1", "every day in January, June and July, once"),
        ("FREQ=DAILY;BYMONTHDAY=1,-1", "every day if it is the 1st and last day"),
        ("FREQ=WEEKLY", "every week on Saturday"),
        ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", "every weekday"),
        ("FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;BYMONTH=5", "every weekday in May"),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;UNTIL=20261231",
            "every 2 weeks on Monday and Thursday, until December 31, 2026",
        ),
        ("FREQ=MONTHLY", "every month on the 31st (or the last day of a shorter month)"),
        ("FREQ=MONTHLY;SKIP=OMIT", "every month on the 31st (not in shorter months)"),
        ("FREQ=MONTHLY;SKIP=FORWARD", "every month on the 31st (or the day after a shorter month)"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,15,-1", "every month on the 1st, 15th and last day"),
        ("FREQ=MONTHLY;BYDAY=2TU,-1FR", "every month on the last Friday and the 2nd Tuesday"),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "every month on the 13th if it is Friday"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "every month on the last weekday"),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1,-2",
            "every month on Monday and Tuesday, but only the 2nd-to-last and 1st of these in the month",
        ),
        ("FREQ=YEARLY", "every year on January 31"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "every year on February 29 (or the last day of a shorter month)"),
        ("FREQ=YEARLY;BYMONTH=3,12;BYMONTHDAY=21", "every year in March and December on the 21st"),
        ("FREQ=YEARLY;BYMONTHDAY=12", "every year on the 12th of each month"),
        ("FREQ=YEARLY;BYDAY=20MO", "every year on the 20th Monday of the year"),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "every year in November on the 4th Thursday"),
        ("FREQ=YEARLY;BYWEEKNO=20,-1", "every year in the last and 20th week on Saturday"),
        ("FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,-1", "every 3 years on the last, 1st and 100th day of the year"),
        ("FREQ=DAILY;BYHOUR=9,17;BYMINUTE=30", "every day at 09:30 and 17:30"),
        ("FREQ=DAILY;UNTIL=20261231T090000Z", "every day, until December 31, 2026 at 09:00 UTC"),
        ("FREQ=DAILY;UNTIL=20261231T090001", "every day, until December 31, 2026 at 09:00:01"),
    ];
    for (text, expected) in examples {
        assert_eq!(rule(text).text(time("2026-01-31T00:00")), expected, "{text}");
    }
}

#[test]
fn ordinals_have_the_right_suffix() {
    let text = rule("FREQ=MONTHLY;BYMONTHDAY=1,2,3,4,11,12,13,21,22,23").text(time("2026-01-01T00:00"));
    assert_eq!(text, "every month on the 1st, 2nd, 3rd, 4th, 11th, 12th, 13th, 21st, 22nd and 23rd");
}
