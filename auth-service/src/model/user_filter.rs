//! Filters of accounts, in the syntax of [`service_kit::filter`].

use service_kit::filter::{Comparator, Condition, Filter, Parsed, Value};

use super::role::Role;

const FIELDS: &str = "email:PREFIX, role:NAME or disabled:true";

/// A filter of accounts.
pub type UserFilter = Filter<UserCondition>;

/// A condition on an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UserCondition {
    /// The email address begins with this text, which is in lower case.
    EmailPrefix(String),
    /// The account has the role.
    Role(Role),
    /// The account is disabled (`true`) or not (`false`).
    Disabled(bool),
}

/// A field that filters can refer to.
#[derive(Clone, Copy, Debug)]
pub enum UserField {
    /// `email`
    Email,
    /// `role`
    Role,
    /// `disabled`
    Disabled,
}

impl Condition for UserCondition {
    type Field = UserField;

    fn field(name: &str) -> Result<UserField, String> {
        match name {
            "email" => Ok(UserField::Email),
            "role" => Ok(UserField::Role),
            "disabled" => Ok(UserField::Disabled),
            _ => Err(format!("expected {FIELDS}")),
        }
    }

    fn text(_: &str) -> Result<Self, String> {
        Err(format!("expected {FIELDS}"))
    }

    fn restriction(field: UserField, comparator: (usize, Comparator), value: (usize, Value)) -> Parsed<Self> {
        let (comparator_at, comparator) = comparator;
        let (value_at, value) = value;
        if comparator != Comparator::Has {
            return Err((comparator_at, "the only comparison is :".to_owned()));
        }
        let Value::Text(value) = value else {
            return Err((value_at, format!("expected {FIELDS}")));
        };
        let wrong_value = |message: &str| (value_at, message.to_owned());
        match field {
            UserField::Email => Ok(Self::EmailPrefix(value.to_lowercase())),
            UserField::Role => value.parse().map(Self::Role).map_err(wrong_value),
            UserField::Disabled => value.parse().map(Self::Disabled).map_err(|_| wrong_value("must be true or false")),
        }
    }

    /// Accepts all characters of email addresses, which therefore need no quotes.
    fn is_value_char(c: char) -> bool {
        !c.is_whitespace() && !c.is_control() && !matches!(c, '(' | ')' | '"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_combined() {
        let parse = |filter: &str| UserFilter::parse(filter).expect(filter);
        let filter = parse(" email:Ann@ AND role:admin  AND disabled:false ");
        assert_eq!(filter, parse("email:'ann@' role:admin disabled:false"));
        let expected = [
            UserCondition::EmailPrefix("ann@".to_owned()),
            UserCondition::Role(Role::Admin),
            UserCondition::Disabled(false),
        ];
        assert!(filter.conditions().eq(&expected), "{filter:?}");
        assert!(parse("").is_empty());
    }

    #[test]
    fn an_email_prefix_needs_no_quotes() {
        let filter = UserFilter::parse("email:o'brien+x@example.com").expect("a valid filter");
        assert!(filter.conditions().eq([&UserCondition::EmailPrefix("o'brien+x@example.com".to_owned())]));
    }

    #[test]
    fn an_error_is_reported_with_its_column() {
        for (text, column) in [
            ("nonsense", 1),
            ("email:", 7),
            ("email = x", 7),
            ("role:king", 6),
            ("disabled:maybe", 10),
            ("role:admin AND", 15),
            ("role:admin AND role:verifier AND x:y", 34),
            ("AND role:admin", 1),
            ("ö:x", 1),
            ("email:*", 7),
        ] {
            let error = UserFilter::parse(text).expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
        }
    }
}
