//! SQL statements and their arguments.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use uuid::Uuid;

use crate::clock::Timestamp;

/// The text of a statement. Its arguments are `$1`, `$2` and so on, in both engines.
#[derive(Clone, Debug)]
pub struct Sql {
    pub(super) text: Cow<'static, str>,
    /// Whether a connection keeps the statement prepared. Texts that are rarely repeated would evict others.
    pub(super) is_cached: bool,
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), is_cached: true }
    }
}

/// Builds a statement whose text depends on the request.
#[derive(Clone, Debug, Default)]
pub struct QueryBuilder {
    text: String,
    args: Vec<Value>,
}

impl QueryBuilder {
    /// Creates a builder of a statement that begins with `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), args: Vec::new() }
    }

    /// Appends SQL, which must not contain data of a request: use [`push_bind`](Self::push_bind) for that.
    pub fn push(&mut self, text: impl fmt::Display) -> &mut Self {
        // Writing to a string cannot fail.
        _ = write!(self.text, "{text}");
        self
    }

    /// Appends an argument.
    pub fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.args.push(value.into());
        let number = self.args.len();
        self.push(format_args!("${number}"))
    }

    /// Appends a list of ids in parentheses. If there are none, it contains the nil UUID, which no row has, because SQL
    /// has no empty list.
    pub fn push_ids(&mut self, ids: impl IntoIterator<Item = Uuid>) -> &mut Self {
        let mut ids = ids.into_iter().peekable();
        let nil = ids.peek().is_none().then(Uuid::nil);
        self.push_rows(ids.chain(nil), |builder, id| {
            builder.push_bind(id);
        });
        self
    }

    /// Appends a list in parentheses, and calls `push` to append each item.
    fn push_rows<T>(&mut self, items: impl IntoIterator<Item = T>, push: impl Fn(&mut Self, T)) -> &mut Self {
        self.push("(");
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            push(self, item);
        }
        self.push(")")
    }

    /// Appends a list of pairs of ids: `(($1, $2), ($3, $4))`. There must be at least one pair.
    pub fn push_id_pairs(&mut self, pairs: impl IntoIterator<Item = (Uuid, Uuid)>) -> &mut Self {
        self.push_rows(pairs, |builder, (first, second)| {
            builder.push_rows([first, second], |builder, id| {
                builder.push_bind(id);
            });
        })
    }

    /// Appends `values` and the rows of an insert: `values ($1, $2), ($3, $4)`. There must be at least one row.
    pub fn push_values(&mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> &mut Self {
        self.push(" values ");
        for (index, row) in rows.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.push_rows(row, |builder, value| {
                builder.push_bind(value);
            });
        }
        self
    }

    /// Returns the statement and its arguments. The statement is prepared on each execution.
    #[must_use]
    pub fn build(self) -> (Sql, Vec<Value>) {
        self.build_with_cache(false)
    }

    /// Returns the statement and its arguments. If `is_cached`, a connection keeps the statement prepared, which is for
    /// builders that produce few different texts.
    #[must_use]
    pub fn build_with_cache(self, is_cached: bool) -> (Sql, Vec<Value>) {
        (Sql { text: Cow::Owned(self.text), is_cached }, self.args)
    }
}

/// An argument of a SQL statement. NULL has a type, too, because PostgreSQL requires one.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `boolean`; in SQLite the integer 0 or 1.
    Bool(Option<bool>),
    /// `bigint`.
    Int(Option<i64>),
    /// `text`.
    Text(Option<String>),
    /// `bytea` or `blob`.
    Bytes(Option<Vec<u8>>),
    /// `uuid`; in SQLite a blob of 16 bytes.
    Uuid(Option<Uuid>),
    /// `bigint[]`. Only PostgreSQL has arrays.
    IntArray(Vec<Option<i64>>),
    /// `text[]`.
    TextArray(Vec<Option<String>>),
    /// `uuid[]`.
    UuidArray(Vec<Option<Uuid>>),
}

impl Value {
    /// Returns the size of a text or of bytes. Other values are small and have no size here.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::TextArray(texts) => texts.iter().flatten().map(String::len).sum(),
            Self::Bool(_) | Self::Int(_) | Self::Uuid(_) | Self::IntArray(_) | Self::UuidArray(_) => 0,
        }
    }

    /// Transposes rows of equal types into an array for each column, for `unnest`. There are arrays of integers, texts and
    /// UUIDs only. There must be at least one row.
    #[must_use]
    pub fn arrays(rows: Vec<Vec<Self>>) -> Vec<Self> {
        let mut rows = rows.into_iter();
        let first = rows.next().unwrap_or_default();
        let mut columns: Vec<Self> = first.into_iter().map(Self::into_array).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        columns
    }

    fn into_array(self) -> Self {
        match self {
            Self::Int(value) => Self::IntArray(vec![value]),
            Self::Text(value) => Self::TextArray(vec![value]),
            Self::Uuid(value) => Self::UuidArray(vec![value]),
            other => other,
        }
    }

    fn push(&mut self, value: Self) {
        match (self, value) {
            (Self::IntArray(values), Self::Int(value)) => values.push(value),
            (Self::TextArray(values), Self::Text(value)) => values.push(value),
            (Self::UuidArray(values), Self::Uuid(value)) => values.push(value),
            (array, value) => unreachable!("{array:?} has no element {value:?}"),
        }
    }
}

impl fmt::Debug for Value {
    /// Shows the type only: the value may be a password hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool",
            Self::Int(_) => "Int",
            Self::Text(_) => "Text",
            Self::Bytes(_) => "Bytes",
            Self::Uuid(_) => "Uuid",
            Self::IntArray(_) => "IntArray",
            Self::TextArray(_) => "TextArray",
            Self::UuidArray(_) => "UuidArray",
        })
    }
}

/// Builds the arguments of a statement: `args![owner, id]` binds `$1` and `$2`. A macro because the number of arguments
/// and their types vary.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::db::Value::from($value)),*] };
}

/// Converts a type, and the `Option` of it, into an argument. A macro because the implementations differ in names only.
macro_rules! impl_from {
    ($($type:ty => $variant:ident, |$value:ident| $converted:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$variant(Some($converted))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$variant(value.map(|$value| $converted))
            }
        }
    )*};
}

impl_from! {
    bool => Bool, |value| value;
    i64 => Int, |value| value;
    Timestamp => Int, |value| value.as_micros();
    String => Text, |value| value;
    &str => Text, |value| value.to_owned();
    &String => Text, |value| value.clone();
    Vec<u8> => Bytes, |value| value;
    Uuid => Uuid, |value| value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbered_in_append_order() {
        let mut builder = QueryBuilder::new("select ");
        builder.push_bind("a").push(" where id in ").push_ids([Uuid::nil(), Uuid::max()]);
        builder.push(" and pair in ").push_id_pairs([(Uuid::nil(), Uuid::max())]);
        let (sql, args) = builder.build();
        assert_eq!(sql.text, "select $1 where id in ($2, $3) and pair in (($4, $5))");
        assert_eq!(args, crate::args!["a", Uuid::nil(), Uuid::max(), Uuid::nil(), Uuid::max()]);
    }

    #[test]
    fn an_empty_list_of_ids_matches_no_row() {
        let mut builder = QueryBuilder::new("id in ");
        builder.push_ids([]);
        assert_eq!(builder.build().1, crate::args![Uuid::nil()]);
    }

    #[test]
    fn rows_of_an_insert_are_separated_by_commas() {
        let mut builder = QueryBuilder::new("insert into items (id, name)");
        builder.push_values([crate::args![1_i64, "a"], crate::args![2_i64, "b"]]);
        assert_eq!(builder.build().0.text, "insert into items (id, name) values ($1, $2), ($3, $4)");
    }
}
