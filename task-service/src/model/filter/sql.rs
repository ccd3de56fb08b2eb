//! Converts conditions to SQL.

use service_kit::{
    clock::Timestamp,
    db::{self, Engine, QueryBuilder},
};
use uuid::Uuid;

use super::{
    Filter,
    condition::{Condition, Field, IdField, TextField, TimeField},
};

/// The id of the series in the stored form of an occurrence.
const SERIES_ID: &str = "substr(recurrence, 1, 32)";

/// A bound value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Id(Uuid),
    Int(i64),
    Text(String),
}

/// The column in which words are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchColumn {
    /// The folded title, a line break, and the folded notes.
    Full,
    /// The same if it is short enough for the index `tasks_sorted`, otherwise null.
    Short,
}

impl SearchColumn {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "search",
            Self::Short => "brief",
        }
    }
}

/// Returns the SQL function for the position of a text in another, which is 0 if it is not found. `like` would need
/// escapes, and its case sensitivity depends on the engine.
fn find_function(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "instr",
        Engine::Postgres => "strpos",
    }
}

/// Returns the `collate` clause that compares texts by code point, independent of the locale of the database.
pub(crate) fn bytewise(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " collate \"C\"",
    }
}

impl From<Value> for db::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Id(id) => id.into(),
            Value::Int(number) => number.into(),
            Value::Text(text) => text.into(),
        }
    }
}

/// Appends a filter to a statement about tasks. It can be combined with `and`.
pub(crate) fn push_filter(
    sql: &mut QueryBuilder,
    filter: &Filter,
    engine: Engine,
    now: Timestamp,
    search_column: SearchColumn,
) {
    let search_column = search_column.name();
    filter.push(sql, |sql, condition| Writer { sql, engine, now, search_column }.push_condition(condition));
}

struct Writer<'a> {
    sql: &'a mut QueryBuilder,
    engine: Engine,
    now: Timestamp,
    search_column: &'static str,
}

impl Writer<'_> {
    fn push_condition(&mut self, condition: &Condition) {
        match condition {
            // The title contains no line break, but one separates it from the notes.
            Condition::Word(word) if word.contains('\n') => self.push_contains(&self.folded_notes(), word),
            Condition::Word(word) => self.push_contains(self.search_column, word),
            Condition::Contains(TextField::Title, text) => self.push_contains(&self.folded_title(), text),
            Condition::Contains(TextField::Notes, text) => self.push_contains(&self.folded_notes(), text),
            // The names of time zones are ASCII, for which `lower` is the same as folding in every language.
            Condition::Contains(TextField::TimeZone, text) => {
                self.push_contains(&format!("lower(time_zone{})", bytewise(self.engine)), text);
            }
            Condition::Text(field, comparison, text) => {
                let column = format!("{}{}", column(Field::Text(*field)), bytewise(self.engine));
                self.push_comparison(&column, comparison.operator(), Value::Text(text.clone()));
            }
            Condition::Id(IdField::Parent, equality, id) => {
                self.push_nullable_comparison("parent_id", !equality.is_equal(), equality.operator(), Value::Id(*id));
            }
            // The stored form of an occurrence begins with the series.
            Condition::Id(IdField::Series, equality, id) => {
                let id = Value::Text(id.simple().to_string());
                self.push_nullable_comparison(SERIES_ID, !equality.is_equal(), equality.operator(), id);
            }
            Condition::Id(field, equality, id) => {
                self.push_comparison(column(Field::Id(*field)), equality.operator(), Value::Id(*id));
            }
            Condition::NoParent(equality) => self.push_is_null("parent_id", equality.is_equal()),
            Condition::Completed(completed) => self.push_is_null("complete_time", !completed),
            Condition::Priority(comparison, priority) => {
                self.push_comparison("priority", comparison.operator(), Value::Int(i64::from(i32::from(*priority))));
            }
            Condition::DueDate(comparison, date) => {
                let column = format!("due_date{}", bytewise(self.engine));
                self.push_nullable_comparison(&column, false, comparison.operator(), Value::Text(date.to_string()));
            }
            Condition::Time(field, comparison, time) => {
                let value = Value::Int(time.resolve(self.now).as_micros());
                let column = column(Field::Time(*field));
                match field {
                    TimeField::Due | TimeField::Complete => {
                        self.push_nullable_comparison(column, false, comparison.operator(), value);
                    }
                    TimeField::Create | TimeField::Update => self.push_comparison(column, comparison.operator(), value),
                }
            }
            Condition::Label(label) => self.push_contains("label_keys", &format!("\n{label}\n")),
            Condition::IsSet(field) => self.push_is_set(*field),
        }
    }

    fn push_is_set(&mut self, field: Field) {
        match field {
            Field::Id(IdField::Parent | IdField::Series)
            | Field::DueDate
            | Field::Time(TimeField::Due | TimeField::Complete) => self.push_is_null(column(field), false),
            Field::Text(_) | Field::Labels => {
                self.sql.push(format_args!("{} != ''", column(field)));
            }
            Field::Priority => {
                self.sql.push("priority != 0");
            }
            Field::Id(IdField::Id | IdField::List)
            | Field::State
            | Field::Time(TimeField::Create | TimeField::Update) => {
                self.sql.push("true");
            }
        }
    }

    fn push_contains(&mut self, column: &str, text: &str) {
        self.sql.push(format_args!("{}({column}, ", find_function(self.engine)));
        self.sql.push_bind(Value::Text(text.to_owned()));
        self.sql.push(") > 0");
    }

    fn push_comparison(&mut self, column: &str, operator: &str, value: Value) {
        self.sql.push(format_args!("{column} {operator} "));
        self.sql.push_bind(value);
    }

    /// Appends a comparison whose result is `if_null` if the column is null.
    fn push_nullable_comparison(&mut self, column: &str, if_null: bool, operator: &str, value: Value) {
        self.sql.push("(");
        self.push_is_null(column, if_null);
        self.sql.push(if if_null { " or " } else { " and " });
        self.push_comparison(column, operator, value);
        self.sql.push(")");
    }

    fn push_is_null(&mut self, column: &str, expected: bool) {
        self.sql.push(format_args!("{column} is {}null", if expected { "" } else { "not " }));
    }

    fn folded_title(&self) -> String {
        format!("substr({0}, 1, {1}({0}, '\n') - 1)", self.search_column, find_function(self.engine))
    }

    fn folded_notes(&self) -> String {
        format!("substr({0}, {1}({0}, '\n') + 1)", self.search_column, find_function(self.engine))
    }
}

fn column(field: Field) -> &'static str {
    match field {
        Field::Time(TimeField::Due) => "due_at",
        Field::Id(IdField::Series) => SERIES_ID,
        field => field.name(),
    }
}
