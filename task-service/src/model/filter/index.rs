//! Reports which columns a filter needs: those that the index `tasks_sorted` covers, and long texts.

use super::{
    Filter,
    condition::{Condition, Field, IdField, TextField, TimeField},
};

/// Reports whether the index contains every column that the filter needs, for tasks with short texts.
pub(crate) fn is_covered_by_index(filter: &Filter) -> bool {
    filter.conditions().all(Condition::is_covered)
}

/// Reports whether the filter searches titles or notes, which the index contains only if they are short.
pub(crate) fn searches_text(filter: &Filter) -> bool {
    filter.conditions().any(Condition::searches)
}

/// Reports whether the filter needs the notes or the search text.
pub(crate) fn reads_long_texts(filter: &Filter) -> bool {
    let reads_notes = |condition: &Condition| {
        matches!(condition, Condition::Text(TextField::Notes, ..) | Condition::IsSet(Field::Text(TextField::Notes)))
    };
    filter.conditions().any(|condition| condition.searches() || reads_notes(condition))
}

impl Condition {
    fn searches(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Contains(TextField::Title | TextField::Notes, _))
    }

    fn is_covered(&self) -> bool {
        match self {
            Self::Word(_) | Self::Completed(_) | Self::Priority(..) | Self::Time(..) => true,
            Self::Contains(field, _) => *field != TextField::TimeZone,
            Self::Text(field, ..) => *field == TextField::Title,
            Self::Id(field, ..) => matches!(field, IdField::Id | IdField::List),
            Self::IsSet(field) => matches!(
                field,
                Field::Id(IdField::Id | IdField::List)
                    | Field::Text(TextField::Title)
                    | Field::State
                    | Field::Priority
                    | Field::Time(TimeField::Due | TimeField::Create | TimeField::Update | TimeField::Complete)
            ),
            Self::NoParent(_) | Self::DueDate(..) | Self::Label(_) => false,
        }
    }
}
