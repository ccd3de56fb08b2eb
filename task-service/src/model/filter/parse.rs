//! From a text to an expression, one function for each rule of the grammar.

use super::{
    Expression, Fault, MAX_DEPTH,
    condition::{Condition, FIELDS, Field},
    fold::fold,
    restriction::{At, Comparator, Value, restriction},
};

/// What the text says.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn parse(text: &str) -> Result<Expression, Fault> {
    let mut parser = Parser { text, at: 0 };
    parser.filter().map_err(|(at, message)| Fault { column: text[..at].chars().count() + 1, message })
}

struct Parser<'a> {
    text: &'a str,
    /// The byte that comes next.
    at: usize,
}

impl<'a> Parser<'a> {
    fn filter(&mut self) -> At<Expression> {
        self.space();
        if self.rest().is_empty() {
            return Ok(Expression::EVERYTHING);
        }
        let expression = self.expression(0, "")?;
        // Only a parenthesis ends an expression early.
        if self.rest().is_empty() { Ok(expression) } else { self.fail("there is no ( for this )") }
    }

    /// `after` is what the caller of this and the following has seen last, to be named if nothing follows.
    fn expression(&mut self, depth: usize, after: &str) -> At<Expression> {
        let mut factors = vec![self.factor(depth, after)?];
        loop {
            let spaced = self.space();
            match self.peek() {
                None | Some(')') => return Ok(Expression::all(factors)),
                Some(next) if spaced || next == '(' || self.text[..self.at].ends_with(')') => {}
                Some(next) => return self.fail(after_a_text(next)),
            }
            let after = if self.keyword("AND") { "AND" } else { "" };
            factors.push(self.factor(depth, after)?);
        }
    }

    fn factor(&mut self, depth: usize, after: &str) -> At<Expression> {
        let mut terms = vec![self.term(depth, after)?];
        loop {
            let end = self.at;
            if !self.space() && !self.text[..end].ends_with(')') || !self.keyword("OR") {
                self.at = end;
                return Ok(Expression::any(terms));
            }
            terms.push(self.term(depth, "OR")?);
        }
    }

    fn term(&mut self, depth: usize, after: &str) -> At<Expression> {
        self.space();
        let start = self.at;
        let not = if self.keyword("NOT") {
            self.space();
            "NOT"
        } else if self.take('-') {
            "-"
        } else {
            return self.simple(depth, after);
        };
        let depth = deeper(depth, start)?;
        Ok(Expression::not(self.simple(depth, not)?))
    }

    fn simple(&mut self, depth: usize, after: &str) -> At<Expression> {
        let start = self.at;
        if self.take('(') {
            let expression = self.expression(deeper(depth, start)?, "(")?;
            return if self.take(')') { Ok(expression) } else { self.fail("expected )") };
        }
        if let Some(text) = self.string()? {
            return match self.comparator() {
                Some(_) => Err((start, "the name of a field stands without quotes".to_owned())),
                None => Ok(Expression::Is(Condition::Word(fold(&text)))),
            };
        }
        let word = self.word(is_word);
        if word.is_empty() || word.starts_with('-') || is_keyword(word) {
            self.at = start;
            return self.fail(&no_condition(self.peek(), after));
        }
        if self.peek() == Some('(') {
            return Err((start, "only now() is a function, and it stands after a comparison".to_owned()));
        }
        let Some((at, comparator)) = self.comparator() else {
            return Ok(Expression::Is(Condition::Word(fold(word))));
        };
        let Some(field) = Field::named(word) else {
            let names = FIELDS.map(|(name, _)| name).join(", ");
            return Err((start, format!("there is no such field; there are {names}")));
        };
        let (value_at, value) = self.value(comparator)?;
        restriction(field, (at, comparator), (value_at, value)).map(Expression::Is)
    }

    /// Leaves what follows a text alone if it is no comparator.
    fn comparator(&mut self) -> Option<(usize, Comparator)> {
        let end = self.at;
        self.space();
        let at = self.at;
        let comparator = Comparator::ALL.into_iter().find(|comparator| self.rest().starts_with(comparator.sign()));
        self.at = comparator.map_or(end, |comparator| at + comparator.sign().len());
        comparator.map(|comparator| (at, comparator))
    }

    fn value(&mut self, comparator: Comparator) -> At<(usize, Value)> {
        self.space();
        let start = self.at;
        if self.take('*') {
            return Ok((start, Value::Any));
        }
        if let Some(text) = self.string()? {
            return Ok((start, Value::Text(text)));
        }
        // An instant needs no quotes.
        let has_digit = self.peek().is_some_and(|c| c.is_ascii_digit());
        let word = self.word(if has_digit { is_word_of_value } else { is_word });
        if word.is_empty() || is_keyword(word) {
            self.at = start;
            return self.fail(&format!("expected a value after {}", comparator.sign()));
        }
        if !self.take('(') {
            return Ok((start, Value::Text(word.to_owned())));
        }
        self.space();
        if word == "now" && self.take(')') {
            return Ok((start, Value::Now));
        }
        Err((start, "the only function is now()".to_owned()))
    }

    /// A text in quotes, if there is one.
    fn string(&mut self) -> At<Option<String>> {
        let start = self.at;
        let Some(quote) = self.peek().filter(|c| matches!(c, '"' | '\'')) else { return Ok(None) };
        let mut text = String::new();
        let mut chars = self.text[start..].char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\0' => return Err((start + at, "a text cannot hold NUL".to_owned())),
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => text.push(escaped),
                    _ => return Err((start + at, r#"after \ stands one of " ' \"#.to_owned())),
                },
                c if c == quote => {
                    self.at = start + at + 1;
                    return Ok(Some(text));
                }
                c => text.push(c),
            }
        }
        Err((start, "the quote is not closed".to_owned()))
    }

    fn word(&mut self, is_part: fn(char) -> bool) -> &'a str {
        let start = self.at;
        self.at += self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        &self.text[start..self.at]
    }

    /// Takes this keyword, if it is the next word.
    fn keyword(&mut self, keyword: &str) -> bool {
        let start = self.at;
        let found = self.word(is_word) == keyword;
        if !found {
            self.at = start;
        }
        found
    }

    /// Takes white space, and says whether there was any.
    fn space(&mut self) -> bool {
        let start = self.at;
        self.word(char::is_whitespace);
        self.at > start
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, message: &str) -> At<T> {
        Err((self.at, message.to_owned()))
    }
}

fn is_word(c: char) -> bool {
    let is_other = !c.is_ascii() && !c.is_whitespace() && !c.is_control();
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/') || is_other
}

fn is_word_of_value(c: char) -> bool {
    is_word(c) || matches!(c, ':' | '+')
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "AND" | "OR" | "NOT")
}

fn deeper(depth: usize, at: usize) -> At<usize> {
    if depth < MAX_DEPTH {
        return Ok(depth + 1);
    }
    Err((at, format!("parentheses and NOT are nested more than {MAX_DEPTH} deep")))
}

/// Why no condition begins with this.
fn no_condition(next: Option<char>, after: &str) -> String {
    match next {
        Some(':' | '=' | '!' | '<' | '>') => "expected the name of a field before the comparison".to_owned(),
        Some(c) if is_sign(c) => in_quotes(c).to_owned(),
        _ if after.is_empty() => "expected a condition".to_owned(),
        _ => format!("expected a condition after {after}"),
    }
}

/// Why this cannot follow a text without white space.
fn after_a_text(next: char) -> &'static str {
    if is_sign(next) { in_quotes(next) } else { "expected white space" }
}

fn is_sign(c: char) -> bool {
    !is_word(c) && !matches!(c, '(' | ')' | '"' | '\'') && !c.is_whitespace()
}

fn in_quotes(c: char) -> &'static str {
    if c.is_control() {
        "a control character can only stand in quotes"
    } else {
        "a text with this character stands in quotes"
    }
}
