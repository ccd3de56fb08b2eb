//! The calls of a sequence and the strategies that generate them. Tasks and lists are identified by their number in the
//! order of creation; a number that is too high identifies a task or list that does not exist.

use std::sync::LazyLock;

use proptest::{collection::vec, option, prelude::*, sample::select};
use taskey_proto::task::v1::update_task_request::Scope;

use super::{
    listing::{Listing, listing},
    series::{RULES, Rule},
};

/// The number of a task or list, in the order of creation.
pub(super) type Number = usize;

#[derive(Clone, Debug)]
pub(super) enum Call {
    /// A write by its own RPC.
    Single(Write, WriteMode),
    Batch(Vec<Write>, WriteMode),
    Undelete(Number, Etag),
    CreateList(&'static str, WriteMode),
    RenameList(Number, Etag, &'static str),
    /// The second list is the destination of the tasks.
    DeleteList(Number, Etag, Option<Number>),
    ListTasks(Listing),
    /// With the page size.
    ListLists(i32),
    Wait(Wait),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Hours,
    /// Longer than the retention of deleted tasks.
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteMode {
    Once,
    /// Sent twice, with the same request id.
    Repeated,
    /// With `validate_only`.
    DryRun,
}

/// The etag in a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Etag {
    None,
    /// The etag at the time of the call.
    Current,
    /// The etag at creation.
    Initial,
    Invalid,
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    /// With the list and the parent.
    Create(Fields, Option<Number>, Option<Number>),
    Update(Number, Etag, Fields, Mask, Scope),
    /// With `allow_missing`.
    Delete(Number, Etag, bool),
    /// With `include_subtasks`.
    Complete(Number, Etag, bool),
    Reopen(Number, Etag),
    Move {
        id: Number,
        etag: Etag,
        list: Option<Number>,
        parent: Option<Number>,
        placement: Placement,
    },
    SkipOccurrence(Number, Etag),
    StopRecurrence(Number, Etag),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Placement {
    First,
    Last,
    Unspecified,
    Before(Number),
    After(Number),
}

#[derive(Clone, Debug)]
pub(super) enum Mask {
    /// No mask: the fields that are set are changed.
    None,
    All,
    Paths(Vec<&'static str>),
}

/// The fields of a task that a caller can set.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) title: &'static str,
    pub(super) notes: &'static str,
    pub(super) priority: i32,
    pub(super) date: &'static str,
    /// Seconds since the epoch.
    pub(super) time: Option<i64>,
    pub(super) zone: &'static str,
    pub(super) labels: Vec<&'static str>,
    pub(super) rule: Option<Rule>,
}

const TITLES: [&str; 12] =
    ["Milk", "milk", "Äpfel", "äpfel", "a\u{308}pfel", "Zebra", "zebra", "éclair", "🥛 milk", "\u{fffd}", "Öl", "中文"];

/// Longer than the part of the text that is indexed.
static LONG_NOTES: LazyLock<String> = LazyLock::new(|| format!("{}MILK\nÄpfel", "soon or later, ".repeat(30)));

/// Titles that validation refuses.
const INVALID_TITLES: [&str; 3] = ["", " \u{3000}", "two\nlines"];

fn fields() -> BoxedStrategy<Fields> {
    let title = prop_oneof![24 => select(&TITLES[..]), 1 => select(&INVALID_TITLES[..])];
    let notes =
        prop_oneof![3 => Just(""), 2 => select(vec!["Get MILK soon", "soon\nÄPFEL", &LONG_NOTES]), 1 => Just("milk"),];
    let priority = prop_oneof![20 => 0..=3, 1 => Just(9)];
    let date = prop_oneof![
        20 => Just(""),
        10 => select(vec!["2026-11-30", "2026-12-31", "2031-02-28"]),
        1 => select(vec!["2026-02-30", "soon"]),
    ];
    let time = prop_oneof![4 => Just(None), 1 => (1_796_000_000..1_797_000_000_i64).prop_map(Some)];
    let zone = prop_oneof![20 => select(vec!["", "Asia/Tokyo"]), 1 => Just("Nowhere")];
    let labels = prop_oneof![
        10 => prop::sample::subsequence(vec!["home", "work", "ä"], 0..=3),
        10 => prop::sample::subsequence(vec!["Home", "hom", "Ä"], 0..=3),
        1 => select(vec![vec!["a", "a"], vec![" "], vec!["home", "Home"]]),
    ];
    let rule = prop_oneof![2 => Just(None), 1 => select(&RULES[..]).prop_map(Some)];
    (title, notes, priority, date, time, zone, labels, rule)
        .prop_map(|(title, notes, priority, date, time, zone, labels, rule)| Fields {
            title,
            notes,
            priority,
            // Most tasks that recur have a due date.
            date: if rule.is_some() && date.is_empty() && time.is_none() { "2026-12-31" } else { date },
            time,
            zone,
            labels,
            rule,
        })
        .boxed()
}

/// Returns the number of a task that a sequence may have created, or rarely of one that does not exist.
pub(super) fn task() -> impl Strategy<Value = Number> {
    prop_oneof![30 => 0..14_usize, 1 => Just(99)]
}

/// Returns the number of a list. Number 0 is the default list.
pub(super) fn list() -> impl Strategy<Value = Number> {
    prop_oneof![12 => 0..4_usize, 1 => Just(99)]
}

fn etag() -> impl Strategy<Value = Etag> {
    prop_oneof![16 => Just(Etag::None), 4 => Just(Etag::Current), 1 => Just(Etag::Initial), 1 => Just(Etag::Invalid)]
}

fn mode() -> impl Strategy<Value = WriteMode> {
    prop_oneof![6 => Just(WriteMode::Once), 2 => Just(WriteMode::Repeated), 1 => Just(WriteMode::DryRun)]
}

/// The fields that an update can change.
pub(super) const FIELDS: [&str; 8] =
    ["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels", "recurrence"];

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![2 => Just(Scope::Unspecified), 1 => Just(Scope::This), 1 => Just(Scope::Following)]
}

fn mask() -> impl Strategy<Value = Mask> {
    let all = FIELDS.to_vec();
    prop_oneof![
        3 => Just(Mask::None),
        1 => Just(Mask::All),
        4 => prop::sample::subsequence(all, 1..=4).prop_map(Mask::Paths),
        1 => select(vec!["list_id", "state", "Title"]).prop_map(|path| Mask::Paths(vec!["title", path])),
    ]
}

/// Boxed, because the types of nested strategies are large.
fn write() -> BoxedStrategy<Write> {
    let placement = || {
        prop_oneof![
            1 => Just(Placement::First),
            1 => Just(Placement::Last),
            1 => Just(Placement::Unspecified),
            3 => task().prop_map(Placement::Before),
            3 => task().prop_map(Placement::After),
        ]
    };
    // Most moves name neither list nor parent, so that the anchor determines both.
    let to = (task(), etag(), option::weighted(0.4, list()), option::weighted(0.3, task()), placement());
    prop_oneof![
        7 => (fields(), option::weighted(0.3, list()), option::weighted(0.4, task()))
            .prop_map(|(fields, list, parent)| Write::Create(fields, list.filter(|_| parent.is_none()), parent)),
        1 => (fields(), list(), task()).prop_map(|(fields, list, parent)| Write::Create(fields, Some(list), Some(parent))),
        4 => (task(), etag(), fields(), mask(), scope())
            .prop_map(|(id, etag, fields, mask, scope)| Write::Update(id, etag, fields, mask, scope)),
        2 => (task(), etag(), any::<bool>()).prop_map(|(id, etag, missing)| Write::Delete(id, etag, missing)),
        4 => (task(), etag(), any::<bool>()).prop_map(|(id, etag, subtasks)| Write::Complete(id, etag, subtasks)),
        1 => (task(), etag()).prop_map(|(id, etag)| Write::Reopen(id, etag)),
        2 => (task(), etag()).prop_map(|(id, etag)| Write::SkipOccurrence(id, etag)),
        1 => (task(), etag()).prop_map(|(id, etag)| Write::StopRecurrence(id, etag)),
        6 => to.prop_map(|(id, etag, list, parent, placement)| Write::Move { id, etag, list, parent, placement }),
    ]
    .boxed()
}

/// Returns the calls of a sequence.
pub(super) fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        20 => (write(), mode()).prop_map(|(write, mode)| Call::Single(write, mode)),
        8 => (vec(write(), 1..=6), mode()).prop_map(|(writes, mode)| Call::Batch(writes, mode)),
        4 => (task(), etag()).prop_map(|(id, etag)| Call::Undelete(id, etag)),
        3 => (select(vec!["Shopping", "Äpfel", ""]), mode()).prop_map(|(title, mode)| Call::CreateList(title, mode)),
        1 => (list(), etag(), select(vec!["Work", "\0"]))
            .prop_map(|(id, etag, title)| Call::RenameList(id, etag, title)),
        2 => (list(), etag(), option::of(list())).prop_map(|(id, etag, to)| Call::DeleteList(id, etag, to)),
        10 => listing().prop_map(Call::ListTasks),
        1 => (1..=3).prop_map(Call::ListLists),
        2 => prop_oneof![9 => Just(Wait::Hours), 1 => Just(Wait::Month)].prop_map(Call::Wait),
    ];
    vec(call.boxed(), 1..=40)
}
