//! Parses text into an expression, with one function for each rule of the grammar.

use std::marker::PhantomData;

use super::{Comparator, Condition, Expression, FilterError, MAX_DEPTH, Parsed, Value};

/// Parses a filter.
///
/// # Errors
/// If the text is not a filter.
pub(super) fn parse<C: Condition>(text: &str) -> Result<Expression<C>, FilterError> {
    let mut parser = Parser { text, at: 0, condition: PhantomData };
    parser.filter().map_err(|(at, message)| FilterError { column: text[..at].chars().count() + 1, message })
}

struct Parser<'a, C> {
    text: &'a str,
    /// The byte offset of the next character.
    at: usize,
    condition: PhantomData<C>,
}

impl<'a, C: Condition> Parser<'a, C> {
    fn filter(&mut self) -> Parsed<Expression<C>> {
        self.white_space();
        if self.rest().is_empty() {
            return Ok(Expression::All(Vec::new()));
        }
        let expression = self.expression(0, "")?;
        // Only a parenthesis ends an expression early.
        if self.rest().is_empty() { Ok(expression) } else { self.fail("this ) has no matching (") }
    }

    /// `after` is the keyword or sign before the expression, for the error message if nothing follows it.
    fn expression(&mut self, depth: usize, after: &str) -> Parsed<Expression<C>> {
        let mut factors = vec![self.factor(depth, after)?];
        loop {
            let spaced = self.white_space();
            match self.peek() {
                None | Some(')') => return Ok(Expression::all(factors)),
                Some(next) if spaced || next == '(' || self.text[..self.at].ends_with(')') => {}
                Some(next) => return self.fail(missing_space_message(next)),
            }
            let after = if self.keyword("AND") { "AND" } else { "" };
            factors.push(self.factor(depth, after)?);
        }
    }

    fn factor(&mut self, depth: usize, after: &str) -> Parsed<Expression<C>> {
        let mut terms = vec![self.term(depth, after)?];
        loop {
            let end = self.at;
            if !self.white_space() && !self.text[..end].ends_with(')') || !self.keyword("OR") {
                self.at = end;
                return Ok(Expression::any(terms));
            }
            terms.push(self.term(depth, "OR")?);
        }
    }

    fn term(&mut self, depth: usize, after: &str) -> Parsed<Expression<C>> {
        self.white_space();
        let start = self.at;
        let not = if self.keyword("NOT") {
            self.white_space();
            "NOT"
        } else if self.consume('-') {
            "-"
        } else {
            return self.simple(depth, after);
        };
        let depth = increment_depth(depth, start)?;
        Ok(Expression::not(self.simple(depth, not)?))
    }

    fn simple(&mut self, depth: usize, after: &str) -> Parsed<Expression<C>> {
        let start = self.at;
        if self.consume('(') {
            let expression = self.expression(increment_depth(depth, start)?, "(")?;
            return if self.consume(')') { Ok(expression) } else { self.fail("expected )") };
        }
        if let Some(text) = self.string()? {
            return match self.comparator() {
                Some(_) => Err((start, "a field name must not be quoted".to_owned())),
                None => text_condition(start, &text),
            };
        }
        let word = self.word(is_word_char);
        if word.is_empty() || word.starts_with('-') || is_keyword(word) {
            self.at = start;
            return self.fail(&missing_condition_message(self.peek(), after));
        }
        if self.peek() == Some('(') {
            return Err((start, "the only function is now(), which must follow a comparison".to_owned()));
        }
        let Some((at, comparator)) = self.comparator() else {
            return text_condition(start, word);
        };
        let field = C::field(word).map_err(|message| (start, message))?;
        let value = self.value(comparator)?;
        C::restriction(field, (at, comparator), value).map(Expression::Is)
    }

    /// Consumes a comparator, if one follows.
    fn comparator(&mut self) -> Option<(usize, Comparator)> {
        let end = self.at;
        self.white_space();
        let at = self.at;
        let comparator = Comparator::ALL.into_iter().find(|comparator| self.rest().starts_with(comparator.operator()));
        self.at = comparator.map_or(end, |comparator| at + comparator.operator().len());
        comparator.map(|comparator| (at, comparator))
    }

    fn value(&mut self, comparator: Comparator) -> Parsed<(usize, Value)> {
        self.white_space();
        let start = self.at;
        if self.consume('*') {
            return Ok((start, Value::Any));
        }
        if let Some(text) = self.string()? {
            return Ok((start, Value::Text(text)));
        }
        // A timestamp is accepted without quotes.
        let starts_with_digit = self.peek().is_some_and(|c| c.is_ascii_digit());
        let word =
            self.word(if starts_with_digit { is_value_char::<C> } else { |c| is_word_char(c) || C::is_value_char(c) });
        if word.is_empty() || is_keyword(word) {
            self.at = start;
            return self.fail(&format!("expected a value after {}", comparator.operator()));
        }
        if !self.consume('(') {
            return Ok((start, Value::Text(word.to_owned())));
        }
        self.white_space();
        if word == "now" && self.consume(')') {
            return Ok((start, Value::Now));
        }
        Err((start, "the only function is now()".to_owned()))
    }

    /// Consumes a text in quotes, if one follows.
    fn string(&mut self) -> Parsed<Option<String>> {
        let start = self.at;
        let Some(quote) = self.peek().filter(|c| matches!(c, '"' | '\'')) else { return Ok(None) };
        let mut text = String::new();
        let mut chars = self.text[start..].char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\0' => return Err((start + at, "text must not contain NUL".to_owned())),
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => text.push(escaped),
                    _ => return Err((start + at, r#"\ must be followed by " ' or \"#.to_owned())),
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

    /// Consumes the characters up to the first one that is not part of the word.
    fn word(&mut self, is_part: fn(char) -> bool) -> &'a str {
        let start = self.at;
        self.at += self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        &self.text[start..self.at]
    }

    /// Consumes this keyword, if it is the next word.
    fn keyword(&mut self, keyword: &str) -> bool {
        let start = self.at;
        let found = self.word(is_word_char) == keyword;
        if !found {
            self.at = start;
        }
        found
    }

    /// Consumes white space, and reports whether there was any.
    fn white_space(&mut self) -> bool {
        let start = self.at;
        self.word(char::is_whitespace);
        self.at > start
    }

    fn consume(&mut self, expected: char) -> bool {
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

    fn fail<T>(&self, message: &str) -> Parsed<T> {
        Err((self.at, message.to_owned()))
    }
}

fn is_word_char(c: char) -> bool {
    let is_other = !c.is_ascii() && !c.is_whitespace() && !c.is_control();
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/') || is_other
}

fn is_value_char<C: Condition>(c: char) -> bool {
    is_word_char(c) || matches!(c, ':' | '+') || C::is_value_char(c)
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "AND" | "OR" | "NOT")
}

fn text_condition<C: Condition>(at: usize, text: &str) -> Parsed<Expression<C>> {
    C::text(text).map(Expression::Is).map_err(|message| (at, message))
}

/// Returns the depth inside the parenthesis or NOT at byte `at`.
///
/// # Errors
/// If it is nested too deeply.
fn increment_depth(depth: usize, at: usize) -> Parsed<usize> {
    if depth < MAX_DEPTH {
        return Ok(depth + 1);
    }
    Err((at, format!("parentheses and NOT must not be nested more than {MAX_DEPTH} deep")))
}

/// Returns why no condition begins with this character.
fn missing_condition_message(next: Option<char>, after: &str) -> String {
    match next {
        Some(':' | '=' | '!' | '<' | '>') => "expected a field name before the comparison".to_owned(),
        Some(c) if is_sign(c) => missing_quotes_message(c).to_owned(),
        _ if after.is_empty() => "expected a condition".to_owned(),
        _ => format!("expected a condition after {after}"),
    }
}

/// Returns why this character cannot directly follow a word or a string.
fn missing_space_message(next: char) -> &'static str {
    if is_sign(next) { missing_quotes_message(next) } else { "expected white space" }
}

fn is_sign(c: char) -> bool {
    !is_word_char(c) && !matches!(c, '(' | ')' | '"' | '\'') && !c.is_whitespace()
}

fn missing_quotes_message(c: char) -> &'static str {
    if c.is_control() { "control characters must be quoted" } else { "text with this character must be quoted" }
}
