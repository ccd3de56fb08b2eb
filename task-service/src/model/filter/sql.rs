//! From an expression to SQL, of which each part is true or false but never null, so that NOT means the same in both.

use service_kit::{
    clock::Timestamp,
    db::{self, Engine, QueryBuilder},
};
use uuid::Uuid;

use super::{
    Expression, Filter,
    condition::{Condition, Field, IdField, TextField, TimeField},
};

/// What is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Id(Uuid),
    Int(i64),
    Text(String),
}

/// The column in which words are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Searched {
    /// The folded title, a line break, and the folded notes.
    Whole,
    /// The same, where it is short enough for the index `tasks_sorted`, and else null.
    Brief,
}

impl Searched {
    fn column(self) -> &'static str {
        match self {
            Self::Whole => "search",
            Self::Brief => "brief",
        }
    }
}

/// Returns the function that finds a text in another byte by byte, and returns 0 if it is not there. LIKE would need
/// escapes, and treats case as each engine likes.
fn find_function(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "instr",
        Engine::Postgres => "strpos",
    }
}

/// Returns what is appended to a text so that it is compared by code point, whatever the language of the database.
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

impl Filter {
    /// Appends the condition to a statement about tasks. It can be combined with `and`.
    pub(crate) fn push(&self, sql: &mut QueryBuilder, engine: Engine, now: Timestamp, searched: Searched) {
        Writer { sql, engine, now, searched: searched.column() }.expression(&self.0);
    }
}

struct Writer<'a> {
    sql: &'a mut QueryBuilder,
    engine: Engine,
    now: Timestamp,
    searched: &'static str,
}

impl Writer<'_> {
    fn expression(&mut self, expression: &Expression) {
        match expression {
            Expression::All(parts) => self.joined(parts, " and "),
            Expression::Any(parts) => self.joined(parts, " or "),
            Expression::Not(part) => {
                self.sql.push("not (");
                self.expression(part);
                self.sql.push(")");
            }
            Expression::Is(condition) => self.condition(condition),
        }
    }

    /// A tree whose depth is the logarithm of the number of parts: SQLite takes no expression deeper than 1000, and a
    /// chain of operators is one as deep as it is long.
    fn joined(&mut self, parts: &[Expression], operator: &str) {
        match parts {
            [] => {
                self.sql.push("true");
            }
            [only] => self.expression(only),
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                self.sql.push("(");
                self.joined(first, operator);
                self.sql.push(operator);
                self.joined(second, operator);
                self.sql.push(")");
            }
        }
    }

    fn condition(&mut self, condition: &Condition) {
        match condition {
            // The title holds no line break, but one lies between it and the notes.
            Condition::Word(word) if word.contains('\n') => self.contains(&self.folded_notes(), word),
            Condition::Word(word) => self.contains(self.searched, word),
            Condition::Contains(TextField::Title, text) => self.contains(&self.folded_title(), text),
            Condition::Contains(TextField::Notes, text) => self.contains(&self.folded_notes(), text),
            // The names of time zones are ASCII, of which this is the folding. Other languages have other lower cases.
            Condition::Contains(TextField::TimeZone, text) => {
                self.contains(&format!("lower(time_zone{})", bytewise(self.engine)), text);
            }
            Condition::Text(field, comparison, text) => {
                let column = format!("{}{}", column(Field::Text(*field)), bytewise(self.engine));
                self.compare(&column, comparison.sign(), Value::Text(text.clone()));
            }
            Condition::Id(IdField::Parent, equality, id) => {
                self.nullable("parent_id", !equality.is_equal(), equality.sign(), Value::Id(*id));
            }
            Condition::Id(field, equality, id) => {
                self.compare(column(Field::Id(*field)), equality.sign(), Value::Id(*id));
            }
            Condition::NoParent(equality) => self.is_null("parent_id", equality.is_equal()),
            Condition::Completed(completed) => self.is_null("complete_time", !completed),
            Condition::Priority(comparison, priority) => {
                self.compare("priority", comparison.sign(), Value::Int(i64::from(i32::from(*priority))));
            }
            Condition::DueDate(comparison, date) => {
                let column = format!("due_date{}", bytewise(self.engine));
                self.nullable(&column, false, comparison.sign(), Value::Text(date.to_string()));
            }
            Condition::Time(field, comparison, instant) => {
                let value = Value::Int(instant.at(self.now).as_micros());
                let column = column(Field::Time(*field));
                match field {
                    TimeField::Due | TimeField::Complete => self.nullable(column, false, comparison.sign(), value),
                    TimeField::Create | TimeField::Update => self.compare(column, comparison.sign(), value),
                }
            }
            Condition::Label(label) => self.contains("labels", &format!("\n{label}\n")),
            Condition::IsSet(field) => self.is_set(*field),
        }
    }

    fn is_set(&mut self, field: Field) {
        match field {
            Field::Id(IdField::Parent) | Field::DueDate | Field::Time(TimeField::Due | TimeField::Complete) => {
                self.is_null(column(field), false);
            }
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

    fn contains(&mut self, place: &str, text: &str) {
        self.sql.push(format_args!("{}({place}, ", find_function(self.engine)));
        self.sql.push_bind(Value::Text(text.to_owned()));
        self.sql.push(") > 0");
    }

    fn compare(&mut self, place: &str, sign: &str, value: Value) {
        self.sql.push(format_args!("{place} {sign} "));
        self.sql.push_bind(value);
    }

    /// A comparison that is `if_missing` if there is nothing to compare.
    fn nullable(&mut self, place: &str, if_missing: bool, sign: &str, value: Value) {
        self.sql.push("(");
        self.is_null(place, if_missing);
        self.sql.push(if if_missing { " or " } else { " and " });
        self.compare(place, sign, value);
        self.sql.push(")");
    }

    fn is_null(&mut self, place: &str, expected: bool) {
        self.sql.push(format_args!("{place} is {}null", if expected { "" } else { "not " }));
    }

    fn folded_title(&self) -> String {
        format!("substr({0}, 1, {1}({0}, '\n') - 1)", self.searched, find_function(self.engine))
    }

    fn folded_notes(&self) -> String {
        format!("substr({0}, {1}({0}, '\n') + 1)", self.searched, find_function(self.engine))
    }
}

fn column(field: Field) -> &'static str {
    match field {
        Field::Time(TimeField::Due) => "due_at",
        field => field.name(),
    }
}
