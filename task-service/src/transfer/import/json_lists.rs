//! Reads JSON documents that contain lists of tasks, one task at a time.

use std::{cell::RefCell, fmt, io::Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    entry::{Entry, FileList, Issue},
    records::{Bounded, Room},
    sink::{ReadError, Sink},
};

/// Adds the task with these fields and the key of its list, and what belongs to it.
pub(crate) type PushTask = fn(u32, Option<&str>, Map<String, Value>, &mut Sink) -> Result<(), ReadError>;

/// The structure of the documents of a product.
pub(crate) struct Structure {
    /// The key of the lists, unless the document is an array of lists.
    pub(crate) lists: &'static str,
    /// The keys of the id and the title of a list. The id must precede the tasks.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The key of the tasks of a list.
    pub(crate) tasks: &'static str,
    /// Reports whether a list is the default list, by its fields.
    pub(crate) is_default: fn(key: &str, value: &Value) -> bool,
    /// Adds a task and what belongs to it.
    pub(crate) push: PushTask,
}

/// Reports whether a key names the next page of a response, which the file does not contain: those of Microsoft Graph, such
/// as `tasks@odata.nextLink`, and that of the Google Tasks API.
pub(crate) fn is_next_page(key: &str) -> bool {
    key.ends_with("@odata.nextLink") || key == "nextPageToken"
}

/// What is said about the key of a next page.
pub(crate) const NEXT_PAGE: &str = "names a page that follows; the file is incomplete without it";

/// Reads a document.
///
/// # Errors
/// If it is not such a document, or a task is too long.
pub(crate) fn read(text: impl Read, structure: &Structure, sink: &mut Sink) -> Result<(), ReadError> {
    let (text, room) = Bounded::new(text);
    let state = RefCell::new(State { sink, row: 0, stopped: None });
    let mut json = serde_json::Deserializer::from_reader(text);
    let document = Document(Context { structure, state: &state, room: &room });
    let outcome = document.deserialize(&mut json).and_then(|()| json.end());
    let State { row, stopped, .. } = state.into_inner();
    match (outcome, stopped) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => Ok(()),
        (Err(error), None) if error.is_io() => Err(std::io::Error::from(error).into()),
        (Err(error), None) if error.is_eof() => Err(ReadError::invalid(row + 1, "the file ends early")),
        (Err(_), None) => Err(ReadError::invalid(row + 1, "the file is not JSON of this format")),
    }
}

/// What all parts of a document share.
struct State<'s> {
    sink: &'s mut Sink,
    /// The number of tasks so far.
    row: u32,
    /// Why reading has stopped, unless the JSON is invalid.
    stopped: Option<ReadError>,
}

/// What is common to the parts of a document.
#[derive(Clone, Copy)]
struct Context<'d, 's> {
    structure: &'d Structure,
    state: &'d RefCell<State<'s>>,
    room: &'d Room,
}

impl Context<'_, '_> {
    /// Calls the sink. An error stops reading.
    fn push<E: Error>(&self, push: impl FnOnce(&mut State<'_>) -> Result<(), ReadError>) -> Result<(), E> {
        self.room.reset();
        let state = &mut *self.state.borrow_mut();
        push(state).map_err(|error| {
            state.stopped = Some(error);
            E::custom("stopped")
        })
    }

    /// Reports a key of a list or of the document, whose value was read, if it names a page that follows.
    fn check_page<E: Error>(&self, key: &str) -> Result<(), E> {
        self.push(|state| {
            let issue = is_next_page(key).then(|| Entry::Loss(Issue::new(0, key, NEXT_PAGE)));
            issue.map_or(Ok(()), |issue| state.sink.push(issue, 0))
        })
    }
}

/// An object with lists, or an array of them.
struct Document<'d, 's>(Context<'d, 's>);

/// An array of lists.
struct Lists<'d, 's>(Context<'d, 's>);

/// A list with its tasks.
struct List<'d, 's>(Context<'d, 's>);

/// The tasks of a list, whose key is `None` for the default list.
struct Tasks<'d, 's>(Context<'d, 's>, Option<String>);

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<(), A::Error> {
        Lists(self.0).visit_seq(array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut has_lists = false;
        while let Some(key) = object.next_key::<String>()? {
            if key == self.0.structure.lists {
                has_lists = true;
                object.next_value_seed(Lists(self.0))?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
            self.0.check_page(&key)?;
        }
        if has_lists { Ok(()) } else { Err(A::Error::custom("no lists")) }
    }
}

impl<'de> Visitor<'de> for Lists<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(List(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Structure { id, title, tasks, is_default, .. } = self.0.structure;
        let (mut list, mut is_default_list) = (FileList::default(), false);
        while let Some(key) = object.next_key::<String>()? {
            if key == *tasks {
                let is_unknown = list.key.is_empty() && !is_default_list;
                if is_unknown {
                    return Err(A::Error::custom("the id of a list must precede its tasks"));
                }
                object.next_value_seed(Tasks(self.0, (!is_default_list).then(|| list.key.clone())))?;
                continue;
            }
            let value: Value = object.next_value()?;
            let text = || value.as_str().unwrap_or_default().to_owned();
            if key == *id {
                list.key = text();
            } else if key == *title {
                list.title = text();
            }
            is_default_list |= is_default(&key, &value);
            self.0.check_page(&key)?;
        }
        if is_default_list || list.key.is_empty() {
            return Ok(());
        }
        self.0.push(|state| state.sink.push(Entry::List(list), 0))
    }
}

impl<'de> Visitor<'de> for Tasks<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tasks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self(context, list) = self;
        while let Some(fields) = array.next_element::<Map<String, Value>>()? {
            context.push(|state| {
                state.row += 1;
                (context.structure.push)(state.row, list.as_deref(), fields, state.sink)
            })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Lists<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> DeserializeSeed<'de> for Tasks<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}
