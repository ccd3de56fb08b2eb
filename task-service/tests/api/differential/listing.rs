//! `ListTasks` calls with filters and orders, and their expected results.

use std::cmp::Ordering;

use proptest::{prelude::*, sample::select};

use super::{
    call::{Number, list, task},
    model::{Model, Task},
};

#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) filter: Option<Filter>,
    /// Up to three fields, each with `true` for descending order.
    pub(super) order: Vec<(&'static str, bool)>,
    pub(super) page_size: i32,
    pub(super) show_deleted: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Filter {
    Completed(bool),
    Priority(&'static str, i32),
    Title(&'static str, &'static str),
    Word(&'static str),
    Label(&'static str),
    /// Matches only tasks with a due time.
    DueTime(&'static str, i64),
    IsSet(&'static str),
    List(Number),
    Parent(Number),
    NoParent,
    Overdue,
    /// Has a syntax error.
    Malformed,
    Not(Box<Filter>),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];
const PRIORITIES: [&str; 4] = ["UNSPECIFIED", "LOW", "MEDIUM", "HIGH"];

pub(super) fn listing() -> BoxedStrategy<Listing> {
    let fields = vec!["title", "create_time", "update_time", "due_time", "priority", "rank"];
    let order = prop::sample::subsequence(fields, 0..=3).prop_shuffle();
    let order = order.prop_flat_map(|fields| {
        let count = fields.len();
        (Just(fields), prop::collection::vec(any::<bool>(), count))
            .prop_map(|(one, other)| one.into_iter().zip(other).collect())
    });
    (prop::option::weighted(0.7, filter()), order, 1..=6, any::<bool>())
        .prop_map(|(filter, order, page_size, show_deleted)| Listing { filter, order, page_size, show_deleted })
        .boxed()
}

fn filter() -> BoxedStrategy<Filter> {
    let operator = || select(&OPERATORS[..]);
    let leaf = prop_oneof![
        4 => any::<bool>().prop_map(Filter::Completed),
        4 => (operator(), 0..=3).prop_map(|(operator, priority)| Filter::Priority(operator, priority)),
        4 => (operator(), select(vec!["Milk", "milk", "Öl", "a\u{308}pfel", "🥛", "\u{ffff}"]))
            .prop_map(|(operator, title)| Filter::Title(operator, title)),
        4 => select(vec!["milk", "MILK", "äpfel", "A\u{308}PFEL", "soon", "中"]).prop_map(Filter::Word),
        4 => select(vec!["home", "Home", "ä", "hom"]).prop_map(Filter::Label),
        4 => (operator(), select(vec![1_796_083_200_i64, 1_796_500_000, 1_798_729_200]))
            .prop_map(|(operator, at)| Filter::DueTime(operator, at)),
        4 => select(vec!["labels", "due_time", "due_date", "notes", "priority", "complete_time", "parent_id", "time_zone"])
            .prop_map(Filter::IsSet),
        3 => list().prop_map(Filter::List),
        3 => task().prop_map(Filter::Parent),
        2 => Just(Filter::NoParent),
        2 => Just(Filter::Overdue),
        1 => Just(Filter::Malformed),
    ];
    let nested = leaf.boxed().prop_recursive(3, 8, 2, |inner| {
        let two = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            inner.clone().prop_map(|filter| Filter::Not(Box::new(filter))),
            two().prop_map(|(one, other)| Filter::And(one, other)),
            two().prop_map(|(one, other)| Filter::Or(one, other)),
        ]
    });
    nested.boxed()
}

/// Folds case and composed characters.
fn fold(text: &str) -> String {
    text.to_lowercase().replace("a\u{308}", "ä")
}

fn compare<T: Ord + ?Sized>(one: &T, operator: &str, other: &T) -> bool {
    match (one.cmp(other), operator) {
        (Ordering::Equal, "=" | "<=" | ">=") | (Ordering::Less | Ordering::Greater, "!=") => true,
        (Ordering::Less, operator) => operator.starts_with('<'),
        (Ordering::Greater, operator) => operator.starts_with('>'),
        _ => false,
    }
}

impl Filter {
    /// Returns the filter expression, with the ids that `task` and `list` return.
    pub(super) fn text(&self, task: &dyn Fn(Number) -> String, list: &dyn Fn(Number) -> String) -> String {
        match self {
            Self::Completed(true) => "state = COMPLETED".to_owned(),
            Self::Completed(false) => "state = OPEN".to_owned(),
            Self::Priority(operator, priority) => {
                format!("priority {operator} {}", PRIORITIES[usize::try_from(*priority).expect("known")])
            }
            Self::Title(operator, text) => format!("title {operator} \"{text}\""),
            Self::Word(word) => (*word).to_owned(),
            Self::Label(label) => format!("labels:{label}"),
            Self::DueTime(operator, seconds) => {
                let at = jiff::Timestamp::from_second(*seconds).expect("near");
                format!("due_time {operator} \"{at}\"")
            }
            Self::IsSet(field) => format!("{field}:*"),
            Self::List(number) => format!("list_id = \"{}\"", list(*number)),
            Self::Parent(number) => format!("parent_id = \"{}\"", task(*number)),
            Self::NoParent => "parent_id = \"\"".to_owned(),
            Self::Overdue => "due_time < now()".to_owned(),
            Self::Malformed => "title = ".to_owned(),
            Self::Not(filter) => format!("NOT ({})", filter.text(task, list)),
            Self::And(one, other) => format!("({}) AND ({})", one.text(task, list), other.text(task, list)),
            Self::Or(one, other) => format!("({}) OR ({})", one.text(task, list), other.text(task, list)),
        }
    }

    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Malformed => true,
            Self::Not(filter) => filter.is_malformed(),
            Self::And(one, other) | Self::Or(one, other) => one.is_malformed() || other.is_malformed(),
            _ => false,
        }
    }

    fn matches(&self, task: &Task, now: i64) -> bool {
        match self {
            Self::Completed(completed) => task.complete_time.is_some() == *completed,
            Self::Priority(operator, priority) => compare(&task.priority, operator, priority),
            Self::Title(operator, text) => compare(task.title, operator, *text),
            Self::Word(word) => [task.title, task.notes].iter().any(|text| fold(text).contains(&fold(word))),
            Self::Label(label) => task.labels.iter().any(|one| one.to_lowercase() == label.to_lowercase()),
            Self::DueTime(operator, seconds) => {
                task.due_at().is_some_and(|due| compare(&due, operator, &(seconds * 1_000_000)))
            }
            Self::IsSet("labels") => !task.labels.is_empty(),
            Self::IsSet("due_time") => task.due_at().is_some(),
            Self::IsSet("due_date") => !task.date.is_empty(),
            Self::IsSet("notes") => !task.notes.is_empty(),
            Self::IsSet("priority") => task.priority != 0,
            Self::IsSet("complete_time") => task.complete_time.is_some(),
            Self::IsSet("parent_id") => task.parent.is_some(),
            Self::IsSet(_) => !task.zone.is_empty(),
            Self::List(number) => task.list == *number,
            Self::Parent(number) => task.parent == Some(*number),
            Self::NoParent => task.parent.is_none(),
            Self::Overdue => task.due_at().is_some_and(|due| due < now),
            Self::Malformed => unreachable!("a malformed filter is refused"),
            Self::Not(filter) => !filter.matches(task, now),
            Self::And(one, other) => one.matches(task, now) && other.matches(task, now),
            Self::Or(one, other) => one.matches(task, now) || other.matches(task, now),
        }
    }
}

impl Listing {
    pub(super) fn order_by(&self) -> String {
        let field =
            |(name, is_descending): &(&str, bool)| format!("{name}{}", if *is_descending { " desc" } else { "" });
        self.order.iter().map(field).collect::<Vec<_>>().join(", ")
    }

    /// Returns the numbers of the tasks that the call should return. Uses the engines' ranks; another check covers that
    /// they sort siblings correctly.
    pub(super) fn expected_numbers(&self, model: &Model, now: i64, rank: &dyn Fn(Number) -> String) -> Vec<Number> {
        let is_listed = |(_, task): &(Number, &Task)| {
            let exists = if self.show_deleted { task.exists(now) } else { task.is_active() };
            exists && self.filter.as_ref().is_none_or(|filter| filter.matches(task, now))
        };
        let mut tasks: Vec<_> = model.tasks.iter().enumerate().filter(is_listed).collect();
        if self.order.is_empty() {
            tasks.reverse();
        }
        tasks.sort_by(|(one_number, one), (other_number, other)| {
            let by = |(name, is_descending): &(&str, bool)| {
                let order = match *name {
                    "title" => one.title.cmp(other.title),
                    "create_time" => one.create_time.cmp(&other.create_time),
                    "update_time" => one.update_time.cmp(&other.update_time),
                    "priority" => one.priority.cmp(&other.priority),
                    "rank" => rank(*one_number).cmp(&rank(*other_number)),
                    // Tasks without a due time are last in either direction.
                    _ => match (one.due_at(), other.due_at()) {
                        (Some(one), Some(other)) => one.cmp(&other),
                        (one, other) => return other.is_some().cmp(&one.is_some()),
                    },
                };
                if *is_descending { order.reverse() } else { order }
            };
            self.order.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
        tasks.into_iter().map(|(number, _)| number).collect()
    }
}
