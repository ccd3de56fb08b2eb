//! Calls of a story, and which there may be. Tasks and lists are named by their numbers in the order in which they were
//! made; one that is too high names what does not exist.

use std::sync::LazyLock;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::listing::{Listing, listing};

/// A number of a task or a list.
pub(super) type Number = usize;

#[derive(Clone, Debug)]
pub(super) enum Call {
    /// A write by its own RPC.
    One(Write, Mode),
    Batch(Vec<Write>, Mode),
    Undelete(Number, Etag),
    MakeList(&'static str, Mode),
    Rename(Number, Etag, &'static str),
    /// With the list that the tasks go into.
    DropList(Number, Etag, Option<Number>),
    Show(Listing),
    /// The lists, so many to a page.
    ShowLists(i32),
    Wait(Wait),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Hours,
    /// Longer than what is deleted is kept.
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    /// It is sent twice, with the same request id.
    Repeated,
    /// It is only tried out.
    Tried,
}

/// The etag that comes with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Etag {
    None,
    /// As it is when the call is made.
    Current,
    /// As it was at first.
    First,
    Foreign,
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    /// With the list and the parent.
    Create(Fields, Option<Number>, Option<Number>),
    Update(Number, Etag, Fields, Mask),
    /// With whether it may be missing.
    Delete(Number, Etag, bool),
    Complete(Number, Etag),
    Reopen(Number, Etag),
    Move {
        id: Number,
        etag: Etag,
        list: Option<Number>,
        parent: Option<Number>,
        place: Place,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    First,
    Last,
    Unsaid,
    Before(Number),
    After(Number),
}

#[derive(Clone, Debug)]
pub(super) enum Mask {
    /// What is set is changed.
    None,
    All,
    Of(Vec<&'static str>),
}

/// What a caller says of a task.
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
}

const TITLES: [&str; 12] =
    ["Milk", "milk", "Äpfel", "äpfel", "a\u{308}pfel", "Zebra", "zebra", "éclair", "🥛 milk", "\u{fffd}", "Öl", "中文"];

/// More than an index holds.
static LONG_NOTES: LazyLock<String> = LazyLock::new(|| format!("{}MILK\nÄpfel", "soon or later, ".repeat(30)));

/// As these should not be.
const BAD_TITLES: [&str; 3] = ["", " \u{3000}", "two\nlines"];

fn fields() -> BoxedStrategy<Fields> {
    let title = prop_oneof![24 => select(&TITLES[..]), 1 => select(&BAD_TITLES[..])];
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
        10 => prop::sample::subsequence(vec!["home", "Home", "ä"], 0..=3),
        1 => select(vec![vec!["a", "a"], vec![" "]]),
    ];
    (title, notes, priority, date, time, zone, labels)
        .prop_map(|(title, notes, priority, date, time, zone, labels)| Fields {
            title,
            notes,
            priority,
            date,
            time,
            zone,
            labels,
        })
        .boxed()
}

/// Of the few that a story makes, or beyond.
pub(super) fn task() -> impl Strategy<Value = Number> {
    prop_oneof![30 => 0..14_usize, 1 => Just(99)]
}

/// The first is the default list.
pub(super) fn list() -> impl Strategy<Value = Number> {
    prop_oneof![12 => 0..4_usize, 1 => Just(99)]
}

fn etag() -> impl Strategy<Value = Etag> {
    prop_oneof![16 => Just(Etag::None), 4 => Just(Etag::Current), 1 => Just(Etag::First), 1 => Just(Etag::Foreign)]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![6 => Just(Mode::Plain), 2 => Just(Mode::Repeated), 1 => Just(Mode::Tried)]
}

fn mask() -> impl Strategy<Value = Mask> {
    let all = vec!["title", "notes", "priority", "due_date", "due_time", "time_zone", "labels"];
    prop_oneof![
        3 => Just(Mask::None),
        1 => Just(Mask::All),
        4 => prop::sample::subsequence(all, 1..=4).prop_map(Mask::Of),
        1 => select(vec!["list_id", "state", "Title"]).prop_map(|path| Mask::Of(vec!["title", path])),
    ]
}

/// Boxed, as trees of choices within choices are large.
fn write() -> BoxedStrategy<Write> {
    let place = || {
        prop_oneof![
            1 => Just(Place::First),
            1 => Just(Place::Last),
            1 => Just(Place::Unsaid),
            3 => task().prop_map(Place::Before),
            3 => task().prop_map(Place::After),
        ]
    };
    // Beside what is where one goes, more often than elsewhere.
    let to = (task(), etag(), option::weighted(0.4, list()), option::weighted(0.3, task()), place());
    prop_oneof![
        7 => (fields(), option::weighted(0.3, list()), option::weighted(0.4, task()))
            .prop_map(|(fields, list, parent)| Write::Create(fields, list.filter(|_| parent.is_none()), parent)),
        1 => (fields(), list(), task()).prop_map(|(fields, list, parent)| Write::Create(fields, Some(list), Some(parent))),
        3 => (task(), etag(), fields(), mask()).prop_map(|(id, etag, fields, mask)| Write::Update(id, etag, fields, mask)),
        2 => (task(), etag(), any::<bool>()).prop_map(|(id, etag, missing)| Write::Delete(id, etag, missing)),
        2 => (task(), etag()).prop_map(|(id, etag)| Write::Complete(id, etag)),
        1 => (task(), etag()).prop_map(|(id, etag)| Write::Reopen(id, etag)),
        6 => to.prop_map(|(id, etag, list, parent, place)| Write::Move { id, etag, list, parent, place }),
    ]
    .boxed()
}

/// The calls of a story.
pub(super) fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        20 => (write(), mode()).prop_map(|(write, mode)| Call::One(write, mode)),
        8 => (vec(write(), 1..=6), mode()).prop_map(|(writes, mode)| Call::Batch(writes, mode)),
        4 => (task(), etag()).prop_map(|(id, etag)| Call::Undelete(id, etag)),
        3 => (select(vec!["Shopping", "Äpfel", ""]), mode()).prop_map(|(title, mode)| Call::MakeList(title, mode)),
        1 => (list(), etag(), select(vec!["Work", "\0"])).prop_map(|(id, etag, title)| Call::Rename(id, etag, title)),
        2 => (list(), etag(), option::of(list())).prop_map(|(id, etag, to)| Call::DropList(id, etag, to)),
        10 => listing().prop_map(Call::Show),
        1 => (1..=3).prop_map(Call::ShowLists),
        2 => prop_oneof![9 => Just(Wait::Hours), 1 => Just(Wait::Month)].prop_map(Call::Wait),
    ];
    vec(call.boxed(), 1..=40)
}
