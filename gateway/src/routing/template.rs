//! The path templates of `google.api.http`, such as `/v1/{name=shelves/*/books/*}:archive`.
//!
//! ```text
//! Template = "/" Segments [ Verb ] ;
//! Segments = Segment { "/" Segment } ;
//! Segment  = "*" | "**" | LITERAL | Variable ;
//! Variable = "{" FieldPath [ "=" Segments ] "}" ;
//! FieldPath = IDENT { "." IDENT } ;
//! Verb     = ":" LITERAL ;
//! ```

use std::{borrow::Cow, str::FromStr};

use crate::codec::percent::{self, BadEncoding};

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What the path is made of; [`Segment::Rest`] is only ever the last.
    pub segments: Vec<Segment>,
    /// What follows the last `:`, without it; empty if there is none.
    pub verb: String,
    /// The parts of the path that are values of fields, from left to right.
    pub variables: Vec<Variable>,
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text, percent-decoded.
    Literal(String),
    /// `*`: any text but none.
    Any,
    /// `**`: all segments that are left, even none.
    Rest,
}

/// A part of the path that is the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The path of the field in the request message.
    pub field: String,
    /// The index of its first segment.
    pub start: usize,
    /// The index after its last segment; none if it takes all that are left.
    pub end: Option<usize>,
}

impl Variable {
    /// The value of the variable in a path that matches its template.
    ///
    /// # Errors
    /// If the path is not percent-encoded UTF-8.
    pub fn value(&self, segments: &[&str]) -> Result<String, BadEncoding> {
        let segments = &segments[self.start..self.end.unwrap_or(segments.len())];
        match (self.end, segments) {
            (Some(_), [only]) => percent::decode(only).map(Cow::into_owned),
            _ => percent::decode_segments(&segments.join("/")),
        }
    }
}

/// Why a text is no path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It starts with something else.
    #[error("a path template starts with a slash")]
    NoSlash,
    /// Nothing stands between two slashes, or after the colon.
    #[error("a segment, a verb or a field name is empty")]
    Empty,
    /// A brace without its partner, or a variable inside of another.
    #[error("the braces do not match")]
    Braces,
    /// Something stands between a variable and the next slash.
    #[error("a variable takes whole segments")]
    PartOfSegment,
    /// `**` is not at the end.
    #[error("`**` stands only at the end")]
    RestNotLast,
    /// A reserved character in a literal or in a field name.
    #[error("a literal holds a reserved character that is not percent-encoded")]
    Reserved,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let last = path.rfind(['/', '}']).map_or(0, |index| index + 1);
        let (mut rest, verb) = match path[last..].find(':') {
            Some(colon) => (&path[..last + colon], literal(&path[last + colon + 1..])?),
            None => (path, String::new()),
        };
        let mut template = Self { segments: Vec::new(), verb, variables: Vec::new() };
        loop {
            rest = if let Some(variable) = rest.strip_prefix('{') {
                template.push_variable(variable)?
            } else {
                let end = rest.find('/').unwrap_or(rest.len());
                template.push_segment(&rest[..end])?;
                &rest[end..]
            };
            if rest.is_empty() {
                return Ok(template);
            }
            rest = rest.strip_prefix('/').ok_or(TemplateError::PartOfSegment)?;
        }
    }
}

impl Template {
    fn push_segment(&mut self, text: &str) -> Result<(), TemplateError> {
        if self.segments.last() == Some(&Segment::Rest) {
            return Err(TemplateError::RestNotLast);
        }
        self.segments.push(match text {
            "*" => Segment::Any,
            "**" => Segment::Rest,
            _ => Segment::Literal(literal(text)?),
        });
        Ok(())
    }

    /// Takes the variable whose opening brace has just been read, and gives what follows it.
    fn push_variable<'t>(&mut self, text: &'t str) -> Result<&'t str, TemplateError> {
        let (variable, after) = text.split_once('}').ok_or(TemplateError::Braces)?;
        let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        for name in field.split('.') {
            literal(name)?;
        }
        let start = self.segments.len();
        for segment in pattern.split('/') {
            self.push_segment(segment)?;
        }
        let end = (self.segments.last() != Some(&Segment::Rest)).then_some(self.segments.len());
        self.variables.push(Variable { field: field.to_owned(), start, end });
        Ok(after)
    }
}

fn literal(text: &str) -> Result<String, TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::Empty);
    }
    if text.contains(['{', '}']) {
        return Err(TemplateError::Braces);
    }
    if text.contains(['*', '=', ':', '/', '?', '#']) {
        return Err(TemplateError::Reserved);
    }
    percent::decode(text).map(Cow::into_owned).map_err(|_| TemplateError::Reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Template {
        text.parse().expect("the template is good")
    }

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn a_variable_without_a_pattern_takes_one_segment() {
        let template = parse("/v1/tasks/{task.id}");
        assert_eq!(template.segments, [literal("v1"), literal("tasks"), Segment::Any]);
        assert_eq!(template.variables, [Variable { field: "task.id".into(), start: 2, end: Some(3) }]);
        assert_eq!(parse("/v1/tasks/{task.id=*}"), template);
    }

    #[test]
    fn a_variable_may_span_literals_and_wildcards() {
        let template = parse("/v1/{name=shelves/*/books/*}/pages/{page}");
        assert_eq!(template.segments.len(), 7);
        let spans: Vec<_> = template.variables.iter().map(|v| (v.start, v.end)).collect();
        assert_eq!(spans, [(1, Some(5)), (6, Some(7))]);
    }

    #[test]
    fn two_stars_take_the_rest() {
        let template = parse("/v1/{path=files/**}");
        assert_eq!(template.segments, [literal("v1"), literal("files"), Segment::Rest]);
        assert_eq!(template.variables[0].end, None);
    }

    #[test]
    fn a_verb_follows_a_literal_a_variable_or_a_wildcard() {
        for (text, verb) in [("/v1/a:go", "go"), ("/v1/{id}:go", "go"), ("/v1/{p=**}:go", "go"), ("/v1/*:go", "go")] {
            assert_eq!(parse(text).verb, verb, "{text}");
        }
        assert_eq!(parse("/v1/a").verb, "");
    }

    #[test]
    fn a_literal_is_percent_decoded() {
        assert_eq!(parse("/a%20b").segments, [literal("a b")]);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let refused = [
            ("v1/a", TemplateError::NoSlash),
            ("", TemplateError::NoSlash),
            ("/", TemplateError::Empty),
            ("/v1//a", TemplateError::Empty),
            ("/v1/", TemplateError::Empty),
            ("/v1/a:", TemplateError::Empty),
            ("/v1/{}", TemplateError::Empty),
            ("/v1/{a.}", TemplateError::Empty),
            ("/v1/{a=}", TemplateError::Empty),
            ("/v1/{a", TemplateError::Braces),
            ("/v1/a}", TemplateError::Braces),
            ("/v1/{a={b}}", TemplateError::Braces),
            ("/v1/{a}b", TemplateError::PartOfSegment),
            ("/v1/{a}{b}", TemplateError::PartOfSegment),
            ("/v1/**/a", TemplateError::RestNotLast),
            ("/v1/{a=**}/b", TemplateError::RestNotLast),
            ("/v1/a*", TemplateError::Reserved),
            ("/v1/a:b:c", TemplateError::Reserved),
            ("/v1/a%zz", TemplateError::Reserved),
        ];
        for (text, error) in refused {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_value_of_one_segment_is_wholly_decoded() {
        let template = parse("/v1/{id}");
        assert_eq!(template.variables[0].value(&["v1", "a%2Fb"]).as_deref(), Ok("a/b"));
    }

    #[test]
    fn the_value_of_several_segments_keeps_encoded_slashes() {
        let template = parse("/v1/{name=a/*}");
        assert_eq!(template.variables[0].value(&["v1", "a", "b%2Fc%20d"]).as_deref(), Ok("a/b%2Fc d"));
        let template = parse("/v1/{path=**}");
        assert_eq!(template.variables[0].value(&["v1", "b%2Fc"]).as_deref(), Ok("b%2Fc"));
        assert_eq!(template.variables[0].value(&["v1"]).as_deref(), Ok(""));
    }
}
