//! List filters: a subset of the filter language of AIP-160.
//!
//! ```text
//! expression  = factor {["AND"] factor}            all must match
//! factor      = term {"OR" term}                   OR binds tighter than AND
//! term        = ["NOT" | "-"] simple
//! simple      = "(" expression ")" | restriction | text
//! restriction = field comparator (text | "now()" | "*")
//! text        = word | string
//! ```
//!
//! A word consists of ASCII letters and digits, of `_ - . /`, and of all non-ASCII characters except white space and
//! control characters, so that it can contain decomposed letters and emoji. It does not begin with `-`, except as a
//! value. A value that begins with a digit may contain `:` and `+`, as timestamps do. A string is enclosed in double or
//! single quotes; `\"`, `\'` and `\\` are the escape sequences.
//!
//! A service defines the fields of its resource with a type that implements [`Condition`].

use std::{
    collections::HashSet,
    fmt::{self, Display},
    hash::Hash,
};

mod parse;
mod sql;

/// Maximum length of a filter.
pub const MAX_BYTES: usize = 2048;

/// Maximum depth of nested parentheses and NOT.
const MAX_DEPTH: usize = 16;

/// Maximum number of conditions. More would take too long for a user with many rows. Conditions that are repeated in an
/// AND or an OR are counted once.
const MAX_CONDITIONS: usize = 64;

/// A result of parsing. The error is a byte offset and a message. Only the offset that is returned to the user is
/// converted to a column, so that parsing takes linear time.
pub type Parsed<T> = Result<T, (usize, String)>;

/// A predicate on one row: a comparison of one field, or a text without a field.
pub trait Condition: Clone + Eq + Hash {
    /// A field of the resource.
    type Field;

    /// Returns the field with this name.
    ///
    /// # Errors
    /// If there is none; the message lists the fields.
    fn field(name: &str) -> Result<Self::Field, String>;

    /// Returns the condition for a text without a field.
    ///
    /// # Errors
    /// If such texts are not supported.
    fn text(text: &str) -> Result<Self, String>;

    /// Returns the condition that compares a field with a value. The comparator and the value are passed with their
    /// byte offsets, for errors.
    ///
    /// # Errors
    /// If the field does not support the comparator or the value.
    fn restriction(field: Self::Field, comparator: (usize, Comparator), value: (usize, Value)) -> Parsed<Self>;

    /// Reports whether a value without quotes may contain a character, in addition to those of words.
    #[must_use]
    fn is_value_char(_: char) -> bool {
        false
    }
}

/// An operator between a field and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparator {
    /// `:`, contains.
    Has,
    /// A comparison by equality or order.
    Is(Comparison),
}

impl Comparator {
    /// No operator is a prefix of a later one.
    const ALL: [Self; 7] = [
        Self::Has,
        Self::Is(Comparison::NotEqual),
        Self::Is(Comparison::LessOrEqual),
        Self::Is(Comparison::GreaterOrEqual),
        Self::Is(Comparison::Less),
        Self::Is(Comparison::Greater),
        Self::Is(Comparison::Equal),
    ];

    fn operator(self) -> &'static str {
        match self {
            Self::Has => ":",
            Self::Is(comparison) => comparison.operator(),
        }
    }
}

/// A comparison by equality or order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Returns the operator, which is the same in filters and in SQL.
    #[must_use]
    pub fn operator(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// The value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word or a string.
    Text(String),
    /// `now()`, when the filter is applied.
    Now,
    /// `*`, any value.
    Any,
}

/// A parsed filter. [`parse`](Self::parse) accepts what its `Display` writes, unless it is longer than [`MAX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter<C>(Expression<C>);

impl<C: Condition> Filter<C> {
    /// Parses a filter. An empty one matches everything.
    ///
    /// # Errors
    /// If the text is not a filter of this resource, or exceeds a limit.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_BYTES {
            let column = text.char_indices().filter(|(at, c)| at + c.len_utf8() <= MAX_BYTES).count() + 1;
            return Err(FilterError { column, message: format!("a filter must have at most {MAX_BYTES} bytes") });
        }
        let filter = Self::parse_unbounded(text)?;
        if filter.conditions().count() > MAX_CONDITIONS {
            let message = format!("a filter must have at most {MAX_CONDITIONS} different conditions");
            return Err(FilterError { column: 1, message });
        }
        Ok(filter)
    }

    /// Parses a filter of any length: quotes and escapes can make the canonical form of a filter longer than it was.
    ///
    /// # Errors
    /// If the text is not a filter of this resource.
    pub fn parse_unbounded(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Reports whether the filter matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Expression::All(parts) if parts.is_empty())
    }

    /// Returns the expression.
    #[must_use]
    pub fn expression(&self) -> &Expression<C> {
        &self.0
    }

    /// Returns all conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &C> {
        self.0.conditions()
    }
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where the error is, in characters from 1.
    pub column: usize,
    /// What is wrong. Does not quote the filter.
    pub message: String,
}

impl Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

/// An expression in normal form: no `All` directly in an `All`, no `Any` in an `Any`, no `Not` in a `Not`, and no
/// duplicates in an `All` or an `Any`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expression<C> {
    /// Two or more expressions that must all match. Empty in a filter that matches everything.
    All(Vec<Expression<C>>),
    /// Two or more expressions of which at least one must match.
    Any(Vec<Expression<C>>),
    /// An expression that must not match.
    Not(Box<Expression<C>>),
    /// A condition.
    Is(C),
}

impl<C: Condition> Expression<C> {
    fn all(parts: Vec<Self>) -> Self {
        Self::flatten(parts, Self::All, |part| match part {
            Self::All(parts) => Ok(parts),
            part => Err(part),
        })
    }

    fn any(parts: Vec<Self>) -> Self {
        Self::flatten(parts, Self::Any, |part| match part {
            Self::Any(parts) => Ok(parts),
            part => Err(part),
        })
    }

    /// Joins `parts`, after replacing those that `split` accepts by their own parts, and removing duplicates.
    fn flatten(parts: Vec<Self>, join: fn(Vec<Self>) -> Self, split: fn(Self) -> Result<Vec<Self>, Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match split(part) {
                Ok(mut parts) => flat.append(&mut parts),
                Err(part) => flat.push(part),
            }
        }
        let mut seen = HashSet::new();
        flat.retain(|part| seen.insert(part.clone()));
        match flat.len() {
            1 => flat.remove(0),
            _ => join(flat),
        }
    }

    fn not(part: Self) -> Self {
        match part {
            Self::Not(part) => *part,
            part => Self::Not(Box::new(part)),
        }
    }

    fn conditions(&self) -> Box<dyn Iterator<Item = &C> + '_> {
        match self {
            Self::All(parts) | Self::Any(parts) => Box::new(parts.iter().flat_map(Self::conditions)),
            Self::Not(part) => part.conditions(),
            Self::Is(condition) => Box::new([condition].into_iter()),
        }
    }
}

impl<C: Display> Display for Filter<C> {
    /// Writes the canonical form, with every AND and without superfluous parentheses, which would count as depth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<C: Display> Display for Expression<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => write_joined(f, parts, " AND ", |_| false),
            Self::Any(parts) => write_joined(f, parts, " OR ", |part| matches!(part, Self::All(_))),
            Self::Not(part) if matches!(**part, Self::Is(_)) => write!(f, "NOT {part}"),
            Self::Not(part) => write!(f, "NOT ({part})"),
            Self::Is(condition) => condition.fmt(f),
        }
    }
}

fn write_joined<C: Display>(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression<C>],
    operator: &str,
    needs_parentheses: fn(&Expression<C>) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { operator })?;
        if needs_parentheses(part) { write!(f, "({part})") } else { part.fmt(f) }?;
    }
    Ok(())
}
