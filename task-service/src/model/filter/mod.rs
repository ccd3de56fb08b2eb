//! Which tasks a caller asks for: a part of the language of AIP-160, compiled to SQL in which all that the caller has
//! written is bound.
//!
//! ```text
//! expression  = factor {["AND"] factor}            all must hold
//! factor      = term {"OR" term}                   OR binds tighter than AND
//! term        = ["NOT" | "-"] simple
//! simple      = "(" expression ")" | restriction | text
//! restriction = field comparator (text | "now()" | "*")
//! text        = word | string
//! ```
//!
//! A word is made of ASCII letters and digits, of `_ - . /`, and of all that is not ASCII but white space and control
//! characters, so that decomposed letters and emoji are in it too. It does not begin with `-`, except as a value; a value
//! that begins with a digit may hold `:` and `+`, as instants do. A string stands in double or single quotes, in which
//! `\"`, `\'` and `\\` stand for the second character.
//!
//! A condition is either true or false of a task, never unknown. A field that is not set fails every comparison, even
//! `!=`, and `NOT` makes that true; but the texts and `parent_id` are texts in the interface, empty if they are not set,
//! so that `!=` is there the opposite of `=`.

mod condition;
mod covered;
mod fold;
mod parse;
mod restriction;
mod sql;

use std::{
    collections::HashSet,
    fmt::{self, Display},
};

use condition::Condition;
pub(crate) use fold::searched;
pub(crate) use sql::{Searched, Value, bytewise};

/// No filter of a person needs more.
const MAX_BYTES: usize = 2048;

/// How deep parentheses and NOT may be nested.
const MAX_DEPTH: usize = 16;

/// More conditions would take too long where a user has many tasks. What is said again among the parts of an AND or an OR
/// does not count.
const MAX_CONDITIONS: usize = 64;

/// What a task must be like. [`parse`](Self::parse) makes one of what its `Display` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(Expression);

impl Filter {
    /// Reads a filter. One that is empty lets everything through.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_BYTES {
            let column = text.char_indices().filter(|(at, c)| at + c.len_utf8() <= MAX_BYTES).count() + 1;
            return Err(Fault { column, message: format!("a filter has at most {MAX_BYTES} bytes") });
        }
        let filter = Self::parse_any(text)?;
        if filter.0.conditions() > MAX_CONDITIONS {
            let message = format!("a filter has at most {MAX_CONDITIONS} different conditions");
            return Err(Fault { column: 1, message });
        }
        Ok(filter)
    }

    /// Whether it lets everything through.
    pub(crate) fn is_everything(&self) -> bool {
        self.0 == Expression::EVERYTHING
    }

    /// Reads a filter of any length: quotes and escapes can make the rendering of one longer than it was.
    pub(crate) fn parse_any(text: &str) -> Result<Self, Fault> {
        parse::parse(text).map(Self)
    }
}

/// What is wrong with a filter. The message is for people, and quotes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, in code points from 1.
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

/// A tree as flat as can be: no `All` directly in an `All` nor `Any` in an `Any`, no `Not` in a `Not`, and nothing twice
/// among the parts of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expression {
    /// Two or more; none at all in the filter that lets everything through.
    All(Vec<Expression>),
    /// Two or more.
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Is(Condition),
}

impl Expression {
    const EVERYTHING: Self = Self::All(Vec::new());

    fn all(parts: Vec<Self>) -> Self {
        Self::flat(parts, Self::All, |part| match part {
            Self::All(parts) => Ok(parts),
            part => Err(part),
        })
    }

    fn any(parts: Vec<Self>) -> Self {
        Self::flat(parts, Self::Any, |part| match part {
            Self::Any(parts) => Ok(parts),
            part => Err(part),
        })
    }

    fn flat(parts: Vec<Self>, join: fn(Vec<Self>) -> Self, split: fn(Self) -> Result<Vec<Self>, Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match split(part) {
                Ok(mut parts) => flat.append(&mut parts),
                Err(part) => flat.push(part),
            }
        }
        let mut known = HashSet::new();
        flat.retain(|part| known.insert(part.clone()));
        match flat.len() {
            1 => flat.remove(0),
            _ => join(flat),
        }
    }

    fn conditions(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::conditions).sum(),
            Self::Not(part) => part.conditions(),
            Self::Is(_) => 1,
        }
    }

    fn not(part: Self) -> Self {
        match part {
            Self::Not(part) => *part,
            part => Self::Not(Box::new(part)),
        }
    }
}

impl Display for Filter {
    /// The canonical form: every AND is there, and no parenthesis that is not needed, for those count as depth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(f, parts, " AND ", |_| false),
            Self::Any(parts) => joined(f, parts, " OR ", |part| matches!(part, Self::All(_))),
            Self::Not(part) if matches!(**part, Self::Is(_)) => write!(f, "NOT {part}"),
            Self::Not(part) => write!(f, "NOT ({part})"),
            Self::Is(condition) => condition.fmt(f),
        }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    operator: &str,
    in_parentheses: fn(&Expression) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { operator })?;
        if in_parentheses(part) { write!(f, "({part})") } else { part.fmt(f) }?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
