//! Generates filters of every kind, in every notation.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::condition::{FIELDS, FilterTime},
    row::{DAYS, PIECES, TIME_ZONES, id, instant, text},
};

pub(super) fn filter() -> impl Strategy<Value = String> {
    let nested = condition().prop_recursive(4, 24, 4, |part| {
        let several = (vec(part.clone(), 2..5), select(vec![" ", " AND ", " OR ", "  OR\t"]));
        prop_oneof![
            several.prop_map(|(parts, operator)| format!("({})", parts.join(operator))),
            (part.clone(), part.clone(), part.clone()).prop_map(|(a, b, c)| format!("({a} OR {b} {c})")),
            (select(vec!["NOT (", "-(", "NOT("]), part).prop_map(|(not, part)| format!("{not}{part})")),
        ]
    });
    prop_oneof![1 => Just(" ".to_owned()), 40 => nested]
}

fn condition() -> BoxedStrategy<String> {
    let ordered = || select(vec![" = ", "=", "!=", " < ", "<=", ">", " >= "]);
    let equality = || select(vec!["=", " != "]);
    let instant = prop_oneof![Just(FilterTime::Now), instant().prop_map(FilterTime::At)].prop_map(|at| at.to_string());
    let priorities = ["UNSPECIFIED", "LOW", "PRIORITY_MEDIUM", "HIGH"];
    let times = ["due_time", "create_time", "update_time", "complete_time"];
    let states = ["OPEN", "STATE_COMPLETED"];
    let zones = TIME_ZONES.map(|zone| format!("'{zone}'"));
    prop_oneof![
        select(vec!["milk", "MI", "ς", "e\u{301}", "買", "-a", "NOT ß"]).prop_map(str::to_owned),
        quoted(text()),
        quoted((text(), text()).prop_map(|(one, other)| format!("{one}\n{other}"))),
        (select(vec!["title:", "notes : ", "time_zone:"]), quoted(text())).prop_map(pair),
        (Just("title"), ordered(), quoted(text())).prop_map(triple),
        (select(vec!["notes", "time_zone"]), equality(), quoted(text())).prop_map(triple),
        (select(vec!["time_zone=", "time_zone!=", "time_zone:"]), select(zones.to_vec())).prop_map(pair),
        (select(vec!["id", "list_id", "parent_id", "series_id"]), equality(), id().prop_map(|id| id.to_string()))
            .prop_map(triple),
        (Just("parent_id"), equality(), Just("''".to_owned())).prop_map(triple),
        (Just("state"), equality(), select(states.map(str::to_owned).to_vec())).prop_map(triple),
        (Just("priority"), ordered(), select(priorities.map(str::to_owned).to_vec())).prop_map(triple),
        (Just("due_date"), ordered(), select(DAYS.map(|(day, _)| day.to_owned()).to_vec())).prop_map(triple),
        (select(times.to_vec()), ordered(), instant).prop_map(triple),
        (Just("labels:"), quoted(select(&PIECES[..]).prop_map(str::to_owned))).prop_map(pair),
        select(FIELDS.map(|(name, _)| format!("{name}:*")).to_vec()),
    ]
    .boxed()
}

fn pair((one, other): (impl AsRef<str>, String)) -> String {
    format!("{}{other}", one.as_ref())
}

fn triple((field, comparator, value): (impl AsRef<str>, &str, String)) -> String {
    format!("{}{comparator}{value}", field.as_ref())
}

fn quoted(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, select(vec!['"', '\''])).prop_map(|(text, quote)| {
        let escape = |c: char| if c == quote || c == '\\' { format!("\\{c}") } else { c.to_string() };
        format!("{quote}{}{quote}", text.chars().map(escape).collect::<String>())
    })
}
