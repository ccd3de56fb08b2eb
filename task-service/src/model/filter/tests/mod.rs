//! Which texts are filters, and which tasks they match: in memory and on both engines.

use service_kit::filter::MAX_BYTES;

use super::Filter;

mod engines;
mod matches;
pub(crate) mod row;
mod strategy;

/// Returns the canonical form of a filter.
fn canonical(text: &str) -> String {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let canonical = filter.to_string();
    assert_eq!(Filter::parse_unbounded(&canonical), Ok(filter), "{text:?}: {canonical:?}");
    canonical
}

fn check_valid(filters: &[(&str, &str)]) {
    for (text, expected) in filters {
        assert_eq!(canonical(text), *expected, "{text:?}");
    }
}

fn check_invalid(filters: &[(&str, usize, &str)]) {
    for (text, column, message) in filters {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!((error.column, &error.message[..]), (*column, *message), "{text:?}");
    }
}

#[test]
fn or_binds_tighter_than_and_and_and_is_optional() {
    check_valid(&[
        ("", ""),
        (" \t\r\n\u{a0}\u{85}", ""),
        ("a", r#""a""#),
        (" a  b ", r#""a" AND "b""#),
        ("a AND b c", r#""a" AND "b" AND "c""#),
        ("a OR b AND c", r#""a" OR "b" AND "c""#),
        ("a b OR c d", r#""a" AND "b" OR "c" AND "d""#),
        ("(a AND b) OR c", r#"("a" AND "b") OR "c""#),
        ("a AND (b OR c)", r#""a" AND "b" OR "c""#),
        ("((a)) (b (c AND d))", r#""a" AND "b" AND "c" AND "d""#),
        ("(a OR b) OR (c OR (d))", r#""a" OR "b" OR "c" OR "d""#),
        ("( a )( b )OR(c)AND(d)", r#""a" AND "b" OR "c" AND "d""#),
        ("NOT a OR -b", r#"NOT "a" OR NOT "b""#),
        ("-(a b) NOT (a OR b)", r#"NOT ("a" AND "b") AND NOT ("a" OR "b")"#),
        ("NOT(a)NOT(b)", r#"NOT "a" AND NOT "b""#),
        ("NOT (NOT a) -(-(b c)) d", r#""a" AND "b" AND "c" AND "d""#),
    ]);
}

#[test]
fn words_and_strings_without_a_field_are_searched() {
    check_valid(&[
        ("and or not", r#""and" AND "or" AND "not""#),
        ("ANDY NOTE ORAL", r#""andy" AND "note" AND "oral""#),
        (r#""AND" 'OR' "not""#, r#""and" AND "or" AND "not""#),
        ("title", r#""title""#),
        ("now", r#""now""#),
        ("2026-11-30 a-b x_y 1.5 a/b .", r#""2026-11-30" AND "a-b" AND "x_y" AND "1.5" AND "a/b" AND ".""#),
        ("Ä o\u{308} ΣΑΣ 買う 🛒 İ", "\"ä\" AND \"ö\" AND \"σασ\" AND \"買う\" AND \"🛒\" AND \"i\""),
        (r#""say \"hi\"" 'it\'s' "he's" '"' "\\""#, r#""say \"hi\"" AND "it's" AND "he's" AND "\"" AND "\\""#),
        ("\"a\nb\u{1}\" 'title:x AND (' \"\"", "\"a\nb\u{1}\" AND \"title:x and (\" AND \"\""),
    ]);
}

#[test]
fn every_field_supports_its_comparisons() {
    let id = "0198c0de-0000-7000-8000-00000000000a";
    check_valid(&[
        (&format!("id={id} list_id != '{}'", id.to_uppercase()), &format!("id = \"{id}\" AND list_id != \"{id}\"")),
        (&format!("parent_id = {id} parent_id:*"), &format!("parent_id = \"{id}\" AND parent_id:*")),
        ("parent_id = '' parent_id != \"\"", r#"parent_id = "" AND parent_id != """#),
        ("title:Milk notes : 'A b'", r#"title:"milk" AND notes:"a b""#),
        ("title=Milk title!=''", r#"title = "Milk" AND title != """#),
        ("title<a title<=b title>c title>=d", r#"title < "a" AND title <= "b" AND title > "c" AND title >= "d""#),
        ("title:2:30+x title:-5", r#"title:"2:30+x" AND title:"-5""#),
        ("notes = x notes != y notes:*", r#"notes = "x" AND notes != "y" AND notes:*"#),
        ("time_zone = Europe/Berlin time_zone:berlin", r#"time_zone = "Europe/Berlin" AND time_zone:"berlin""#),
        ("state = OPEN OR state = STATE_COMPLETED", "state = OPEN OR state = COMPLETED"),
        ("state != STATE_OPEN OR state != \"COMPLETED\"", "state = COMPLETED OR state = OPEN"),
        ("priority<HIGH priority >= PRIORITY_LOW", "priority < HIGH AND priority >= LOW"),
        ("priority = UNSPECIFIED priority != 'MEDIUM'", "priority = UNSPECIFIED AND priority != MEDIUM"),
        ("due_date <= 2026-11-30", r#"due_date <= "2026-11-30""#),
        ("due_date > '0001-01-01' -due_date:*", r#"due_date > "0001-01-01" AND NOT due_date:*"#),
        ("due_time < now() due_time >= now( )", "due_time < now() AND due_time >= now()"),
        ("create_time = 2026-11-30T10:00:00Z", r#"create_time = "2026-11-30T10:00:00Z""#),
        ("update_time > 2026-11-30T10:00:00.1234560+05:30", r#"update_time > "2026-11-30T04:30:00.123456Z""#),
        ("complete_time != '2026-11-30t10:00:00.5-00:30'", r#"complete_time != "2026-11-30T10:30:00.5Z""#),
        ("due_time > 1969-12-31T23:59:59.999999Z", r#"due_time > "1969-12-31T23:59:59.999999Z""#),
        ("due_time > 9999-12-31T23:59:59.999999Z", r#"due_time > "9999-12-31T23:59:59.999999Z""#),
        ("due_time > 0001-01-01T00:00:00Z", r#"due_time > "0001-01-01T00:00:00Z""#),
        ("labels:home -labels:'At Work' labels:*", r#"labels:"home" AND NOT labels:"at work" AND labels:*"#),
        ("id:* list_id:* title:* state:* priority:*", "id:* AND list_id:* AND title:* AND state:* AND priority:*"),
        ("due_time:* create_time:* time_zone:*", "due_time:* AND create_time:* AND time_zone:*"),
        ("complete_time : * update_time:*", "complete_time:* AND update_time:*"),
    ]);
}

#[test]
fn a_syntax_error_is_reported_with_its_column() {
    const SIGN: &str = "text with this character must be quoted";
    const FIELD: &str = "expected a field name before the comparison";
    check_invalid(&[
        ("AND", 1, "expected a condition"),
        ("a AND", 6, "expected a condition after AND"),
        ("a AND  ", 8, "expected a condition after AND"),
        ("ö OR ", 6, "expected a condition after OR"),
        ("a OR AND b", 6, "expected a condition after OR"),
        ("OR a", 1, "expected a condition"),
        ("a b OR", 7, "expected a condition after OR"),
        ("NOT", 4, "expected a condition after NOT"),
        ("NOT NOT a", 5, "expected a condition after NOT"),
        ("NOT -a", 5, "expected a condition after NOT"),
        ("--a", 2, "expected a condition after -"),
        ("a - b", 4, "expected a condition after -"),
        ("()", 2, "expected a condition after ("),
        ("(a", 3, "expected )"),
        ("(a OR b c", 10, "expected )"),
        ("a)", 2, "this ) has no matching ("),
        (")", 1, "expected a condition"),
        ("a\"b\"", 2, "expected white space"),
        ("'a''b'", 4, "expected white space"),
        ("\"a\"AND b", 4, "expected white space"),
        ("labels:*x", 9, "expected white space"),
        ("*", 1, SIGN),
        ("milk*", 5, SIGN),
        ("title:mi*", 9, SIGN),
        ("a, b", 2, SIGN),
        ("50%", 3, SIGN),
        ("a;--", 2, SIGN),
        ("a \u{1}b", 3, "control characters must be quoted"),
        ("a\0", 2, "control characters must be quoted"),
        ("'a\0'", 3, "text must not contain NUL"),
        ("ä \"b", 3, "the quote is not closed"),
        ("'a\\'", 1, "the quote is not closed"),
        (r"'a\nb'", 3, r#"\ must be followed by " ' or \"#),
        (r"'a\", 3, r#"\ must be followed by " ' or \"#),
        ("= x", 1, FIELD),
        ("a AND :x", 7, FIELD),
        ("a AND (!b)", 8, FIELD),
        ("\"title\" = x", 1, "a field name must not be quoted"),
        ("f(x)", 1, "the only function is now(), which must follow a comparison"),
        ("now() > due_time", 1, "the only function is now(), which must follow a comparison"),
    ]);
}

#[test]
fn an_invalid_value_is_reported_with_what_would_be_valid() {
    const DATE: &str = "due_date must be a day such as 2026-11-30";
    const TIME: &str = "due_time must be now() or a timestamp such as 2026-11-30T10:00:00Z";
    const UUID: &str = "id must be a full UUID";
    const ALL: &str = "supports =, !=, <, <=, >, >= and :*";
    const LABEL: &str = "labels must not be empty or contain control characters";
    let fields = "unknown field; the fields are id, list_id, parent_id, title, notes, state, priority, due_date, \
                  due_time, time_zone, create_time, update_time, complete_time, labels, series_id";
    check_invalid(&[
        ("a owner_id = 1", 3, fields),
        ("Title:x", 1, fields),
        ("title.x = y", 1, fields),
        ("due_date > now", 12, DATE),
        ("create_time =", 14, "expected a value after ="),
        ("title != ", 10, "expected a value after !="),
        ("title:", 7, "expected a value after :"),
        ("title = AND", 9, "expected a value after ="),
        ("title = = x", 9, "expected a value after ="),
        ("title <> x", 8, "expected a value after <"),
        ("title:(a OR b)", 7, "expected a value after :"),
        ("title = *", 9, "* is only allowed after :"),
        ("id < 1", 4, "id supports =, != and :*"),
        ("state:OPEN", 6, "state supports =, != and :*"),
        ("notes > a", 7, "notes supports =, != and :"),
        ("labels = home", 8, "labels supports :"),
        ("priority:HIGH", 9, &format!("priority {ALL}")),
        ("due_time : now()", 10, &format!("due_time {ALL}")),
        ("title = now()", 9, "title cannot be compared with now()"),
        ("due_time > later()", 12, "the only function is now()"),
        ("due_time > now(1)", 12, "the only function is now()"),
        ("id = x", 6, UUID),
        ("id = ''", 6, UUID),
        ("id = 0198c0de00007000800000000000000a", 6, UUID),
        ("parent_id = x", 13, "parent_id must be a full UUID, or \"\" for none"),
        ("state = open", 9, "state must be OPEN or COMPLETED"),
        ("state = STATE_UNSPECIFIED", 9, "state must be OPEN or COMPLETED"),
        ("priority = 3", 12, "priority must be UNSPECIFIED, LOW, MEDIUM or HIGH"),
        ("priority = PRIORITY_PRIORITY_LOW", 12, "priority must be UNSPECIFIED, LOW, MEDIUM or HIGH"),
        ("due_date = 2026-02-29", 12, DATE),
        ("due_date = 2026-11-30T00:00:00Z", 12, DATE),
        ("due_date = ''", 12, &format!("{DATE}; NOT due_date:* finds tasks without one")),
        ("due_time = ''", 12, TIME),
        ("due_time = 'now()'", 12, TIME),
        ("due_time = 2026-11-30", 12, TIME),
        ("due_time = 2026-11-30T10:00:00", 12, TIME),
        ("due_time = '2026-11-30 10:00:00Z'", 12, TIME),
        ("due_time = '2026-11-30T10:00Z'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00.Z'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00,5Z'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00+0100'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00+24:00'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00\u{2212}01:00'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00Z[UTC]'", 12, TIME),
        ("due_time = '2026-11-30T24:00:00Z'", 12, TIME),
        ("due_time = '2016-12-31T23:59:60Z'", 12, TIME),
        ("due_time = '2026-02-29T10:00:00Z'", 12, TIME),
        ("due_time = '٢٠٢٦-11-30T10:00:00Z'", 12, TIME),
        ("due_time = '2026-11-30T10:00:00.0000001Z'", 12, "due_time must not be finer than a microsecond"),
        ("due_time = '2026-11-30T10:00:00.0000000001Z'", 12, "due_time must not be finer than a microsecond"),
        ("due_time = '0001-01-01T00:00:00+00:01'", 12, "due_time must be from year 1 to year 9999"),
        ("due_time = '9999-12-31T23:59:59-00:01'", 12, "due_time must be from year 1 to year 9999"),
        ("labels:''", 8, LABEL),
        ("labels:'a\nb'", 8, LABEL),
    ]);
}

#[test]
fn repeated_conditions_are_kept_once() {
    assert_eq!(canonical(&"a ".repeat(1000)), canonical("a"));
    assert_eq!(canonical("a OR b OR a OR (b OR a)"), canonical("a OR b"));
    assert_eq!(canonical("(a b) (a OR b) b"), canonical("a b (a OR b)"));
}

#[test]
fn length_depth_and_number_of_conditions_are_limited() {
    let longest = "ä".repeat(MAX_BYTES / 2);
    assert_eq!(canonical(&longest), format!("\"{longest}\""));
    let error = Filter::parse(&format!("{longest} ")).expect_err("too long");
    assert_eq!(error.to_string(), "column 1025: a filter must have at most 2048 bytes");

    for (open, levels, column) in [("(", 16, 17), ("-(", 8, 17), ("NOT (", 8, 41), ("a OR (b ", 16, 134)] {
        let nested = |levels: usize| format!("{}a{}", open.repeat(levels), ")".repeat(levels));
        canonical(&nested(levels));
        let error = Filter::parse(&nested(levels + 1)).expect_err("too deep");
        let message = "parentheses and NOT must not be nested more than 16 deep";
        assert_eq!((error.column, &error.message[..]), (column, message), "{open}");
    }
    let words = |count: usize| (0..count).map(|word| format!("w{word}")).collect::<Vec<_>>();
    canonical(&words(64).join(" OR "));
    let error = Filter::parse(&words(65).join(" ")).expect_err("too many");
    assert_eq!(error.message, "a filter must have at most 64 different conditions");

    assert!(Filter::parse(&"(".repeat(MAX_BYTES)).is_err());
    assert!(Filter::parse(&"-".repeat(MAX_BYTES)).is_err());
    assert!(Filter::parse(&"NOT ".repeat(MAX_BYTES / 4)).is_err());
}
