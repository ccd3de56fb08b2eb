//! Which accounts an administrator asks for.

use crate::model::role::Role;

/// No filter of ours needs more.
const MAX_BYTES: usize = 2048;

/// What an account must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// What its address begins with.
    pub email_prefix: Option<String>,
    /// A role that it has.
    pub role: Option<Role>,
    /// Whether it is disabled.
    pub disabled: Option<bool>,
}

impl UserFilter {
    /// Reads a filter: `email:PREFIX`, `role:NAME` and `disabled:true`, joined by `AND`.
    ///
    /// # Errors
    /// What is wrong with it and where, in words for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("must have at most {MAX_BYTES} bytes"));
        }
        let mut filter = Self::default();
        let mut wants_and = false;
        for word in text.split_whitespace() {
            // Both point into the same text.
            let column = text[..word.as_ptr().addr() - text.as_ptr().addr()].chars().count() + 1;
            if wants_and != (word == "AND") {
                let expected = if wants_and { "AND" } else { "email:, role: or disabled:" };
                return Err(format!("column {column}: expected {expected}"));
            }
            if !wants_and {
                filter.add(word).map_err(|fault| format!("column {column}: {fault}"))?;
            }
            wants_and = !wants_and;
        }
        if !wants_and && !text.trim().is_empty() {
            return Err(format!("column {}: expected email:, role: or disabled:", text.chars().count() + 1));
        }
        Ok(filter)
    }

    fn add(&mut self, condition: &str) -> Result<(), &'static str> {
        let (name, value) = condition.split_once(':').ok_or("expected email:, role: or disabled:")?;
        let is_new = match name {
            _ if value.is_empty() => return Err("expected a value after the colon"),
            "email" => self.email_prefix.replace(value.to_lowercase()).is_none(),
            "role" => self.role.replace(value.parse()?).is_none(),
            "disabled" => {
                let disabled = value.parse().map_err(|_| "must be true or false")?;
                self.disabled.replace(disabled).is_none()
            }
            _ => return Err("expected email:, role: or disabled:"),
        };
        if is_new { Ok(()) } else { Err("is duplicated") }
    }
}

#[cfg(test)]
mod tests {
    use super::UserFilter;
    use crate::model::role::Role;

    #[test]
    fn conditions_are_joined() {
        let filter = UserFilter::parse(" email:Ann@ AND role:admin  AND disabled:false ").expect("good");
        assert_eq!(filter.email_prefix.as_deref(), Some("ann@"));
        assert_eq!((filter.role, filter.disabled), (Some(Role::Admin), Some(false)));
        assert_eq!(UserFilter::parse(""), Ok(UserFilter::default()));
    }

    #[test]
    fn nonsense_is_refused_with_its_column() {
        for (text, column) in [
            ("nonsense", 1),
            ("email:", 1),
            ("role:king", 1),
            ("disabled:maybe", 1),
            ("role:admin role:admin", 12),
            ("role:admin AND", 15),
            ("role:admin AND role:verifier", 16),
            ("AND role:admin", 1),
            ("ö:x", 1),
            ("role:admin OR disabled:true", 12),
        ] {
            let fault = UserFilter::parse(text).expect_err(text);
            assert!(fault.starts_with(&format!("column {column}: ")), "{text}: {fault}");
        }
        assert!(UserFilter::parse(&"x".repeat(3000)).is_err());
    }
}
