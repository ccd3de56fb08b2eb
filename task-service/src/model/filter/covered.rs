//! What the index `tasks_sorted` is enough for.

use super::{
    Expression, Filter,
    condition::{Condition, Field, IdField, TextField, TimeField},
};

impl Filter {
    /// Whether the index holds everything that it asks for, of tasks whose texts are short.
    pub(crate) fn is_covered(&self) -> bool {
        self.0.iter().all(Condition::is_covered)
    }

    /// Whether it looks into the texts, of which the index holds those that are short.
    pub(crate) fn searches(&self) -> bool {
        self.0.iter().any(Condition::searches)
    }
}

impl Expression {
    fn iter(&self) -> Box<dyn Iterator<Item = &Condition> + '_> {
        match self {
            Self::All(parts) | Self::Any(parts) => Box::new(parts.iter().flat_map(Self::iter)),
            Self::Not(part) => part.iter(),
            Self::Is(condition) => Box::new([condition].into_iter()),
        }
    }
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
            Self::Id(field, ..) => *field != IdField::Parent,
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
